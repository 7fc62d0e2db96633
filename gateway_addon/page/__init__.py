"""A page over a database, for the browser: Datasette, told what is in it.

What is shown is data: `metadata.yaml` has descriptions, queries and charts. `app` puts Datasette around a database,
`cells` writes values as people read them, `guard` lets nobody else in.
"""
