"""The tables and views of a database, as migrations.

Prompts, answers and arguments repeat from call to call, so `contents` holds each text once and rows refer to it; the
views put the texts back where people and saved queries look for them.
"""

import secrets
import sqlite3

from sqlite_utils import Database, Migrations

CALLS = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    pid INTEGER NOT NULL,
    -- tells a process from a later one that was given the same pid (see runs.py); NULL where the system does not say
    process TEXT,
    started_at TEXT NOT NULL,
    -- NULL while the run lasts, and for ever if its process died: that is how its unfinished calls are found
    ended_at TEXT,
    version TEXT NOT NULL
);

CREATE TABLE contents (
    id INTEGER PRIMARY KEY,
    -- finds a text again without an index as large as the texts
    hash BLOB NOT NULL UNIQUE,
    text TEXT NOT NULL
);

-- Clients offer the same dozens of tools in every call of a session: a list is stored once, as JSON
CREATE TABLE tool_sets (
    id INTEGER PRIMARY KEY,
    names TEXT NOT NULL UNIQUE
);

CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (id),
    started_at TEXT NOT NULL,
    source TEXT NOT NULL,
    api_kind TEXT NOT NULL,
    outcome TEXT NOT NULL,
    http_status INTEGER,
    -- apart from http_status: an error inside a 2xx does not change what the status line said
    error_status INTEGER,
    error_type TEXT,
    error_message TEXT,
    provider TEXT,
    dialect TEXT,
    upstream_host TEXT,
    upstream_path TEXT,
    -- three names, because a gateway may map the first to the second and a provider answer with a third
    request_model TEXT,
    upstream_model TEXT,
    response_model TEXT,
    streamed INTEGER,
    finish_reason TEXT,
    finish_detail TEXT,
    response_id TEXT,
    provider_request_id TEXT,
    inference_provider TEXT,
    service_tier TEXT,
    max_tokens INTEGER,
    input_tokens INTEGER,
    cache_read_tokens INTEGER,
    cache_write_tokens INTEGER,
    output_tokens INTEGER,
    reasoning_tokens INTEGER,
    -- the counts and costs as the provider worded them, should a rule above turn out to be wrong
    usage TEXT,
    usage_is_lower_bound INTEGER,
    -- whole microdollars, so that sums are exact
    cost_microdollars INTEGER,
    cost_source TEXT,
    charged_microdollars INTEGER,
    is_byok INTEGER,
    cost_flags TEXT NOT NULL,
    client TEXT,
    client_version TEXT,
    session_id TEXT,
    agent_id TEXT,
    parent_agent_id TEXT,
    side_request TEXT,
    time_to_first_byte_ms REAL,
    time_to_first_token_ms REAL,
    duration_ms REAL,
    request_bytes INTEGER,
    response_bytes INTEGER,
    rewrites TEXT NOT NULL,
    warnings TEXT NOT NULL,
    -- not in the contract: where the call's texts are
    system_prompt_id INTEGER REFERENCES contents (id),
    user_prompt_id INTEGER REFERENCES contents (id),
    reasoning_text_id INTEGER REFERENCES contents (id),
    answer_text_id INTEGER REFERENCES contents (id),
    tool_set_id INTEGER REFERENCES tool_sets (id)
);

CREATE INDEX requests_by_time ON requests (started_at);
-- every start looks for the calls of dead runs; with this it does not read the whole table
CREATE INDEX requests_in_flight ON requests (run_id) WHERE outcome = 'in_flight';

CREATE TABLE stored_tool_calls (
    request_id TEXT NOT NULL REFERENCES requests (id),
    position INTEGER NOT NULL,
    call_id TEXT,
    name TEXT,
    type TEXT NOT NULL,
    executor TEXT NOT NULL,
    -- NULL when gateway_content keeps the arguments out, or the queue was full
    arguments_id INTEGER REFERENCES contents (id),
    -- kept although the arguments may not be
    arguments_valid INTEGER,
    PRIMARY KEY (request_id, position)
) WITHOUT ROWID;

CREATE VIEW tool_calls AS
SELECT request_id, position, call_id, name, type, executor, contents.text AS arguments, arguments_valid
FROM stored_tool_calls LEFT JOIN contents ON contents.id = arguments_id;

-- Results arrive in a later request and are not joined with their calls yet: the columns, and no rows
CREATE VIEW tool_results AS
SELECT request_id, call_id, name, arguments, NULL AS result, NULL AS is_error, NULL AS result_request_id
FROM tool_calls WHERE 0;

CREATE VIEW request_tools AS
SELECT requests.id AS request_id, offered.value AS name
FROM requests JOIN tool_sets ON tool_sets.id = tool_set_id, json_each(tool_sets.names) AS offered;

CREATE VIEW prompts AS
SELECT requests.id AS request_id, started_at, session_id, client, api_kind,
       system.text AS system_prompt, user.text AS user_prompt
FROM requests
LEFT JOIN contents AS system ON system.id = system_prompt_id
LEFT JOIN contents AS user ON user.id = user_prompt_id;

-- Errors are counted from results: as long as none are joined, the sum is NULL, which is to say unknown
CREATE VIEW tool_usage AS
SELECT name, COUNT(*) AS calls, SUM(is_error) AS errors, COUNT(DISTINCT request_id) AS requests
FROM tool_calls LEFT JOIN tool_results USING (request_id, call_id, name)
GROUP BY name;

-- The calls that a provider has answered, or was to answer. A server-replayed call never left the proxy; a
-- client-replayed one did, and is told by the `~` in its id. An abort by the client is no error.
CREATE VIEW counted_requests AS
SELECT *,
       COALESCE(upstream_model, request_model) AS model,
       substr(started_at, 1, 10) AS day,
       outcome IN ('stream_error', 'http_error', 'unreadable', 'upstream_cut') AS is_error
FROM requests
WHERE outcome NOT IN ('rejected', 'in_flight') AND NOT (source = 'replay' AND instr(id, '~') = 0);
"""

# SUM over nothing but NULL is NULL: a total that is wholly unknown stays unknown
USAGE_VIEW = """
CREATE VIEW {view} AS
SELECT {key},
       COUNT(*) AS calls,
       SUM(is_error) AS errors,
       SUM(cost_microdollars IS NULL) AS calls_without_cost,
       SUM(input_tokens) AS input_tokens,
       SUM(cache_read_tokens) AS cache_read_tokens,
       SUM(cache_write_tokens) AS cache_write_tokens,
       SUM(output_tokens) AS output_tokens,
       SUM(reasoning_tokens) AS reasoning_tokens,
       SUM(cost_microdollars) AS cost_microdollars,
       SUM(charged_microdollars) AS charged_microdollars
FROM counted_requests GROUP BY {key};
"""

USAGE_KEYS = {
    "usage_by_model": "model",
    "usage_by_day": "day",
    "usage_by_session": "session_id",
    "usage_by_client": "client",
}


def _run(db: Database, script: str) -> None:
    """Execute the statements of a script, inside a transaction.

    `Database.executescript` asks behind each character whether a statement ends there, which takes longer than all the
    rest of making a file.
    """
    statement = ""
    for piece in script.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            db.execute(statement)
            statement = ""


def create_calls(db: Database) -> None:
    _run(db, CALLS)
    for view, key in USAGE_KEYS.items():
        _run(db, USAGE_VIEW.format(view=view, key=key))


BODIES = """
-- Of the content-decoded request body as the client sent it, in hexadecimal; kept whatever text is kept
ALTER TABLE requests ADD COLUMN request_sha256 TEXT;

-- Not in the contract: where the body is (bodies.py). The rest of the body, with `null` for its elements
ALTER TABLE requests ADD COLUMN envelope_id INTEGER REFERENCES contents (id);
ALTER TABLE requests ADD COLUMN system_tip_id INTEGER REFERENCES nodes (id);
ALTER TABLE requests ADD COLUMN tools_tip_id INTEGER REFERENCES nodes (id);
ALTER TABLE requests ADD COLUMN conversation_tip_id INTEGER REFERENCES nodes (id);
-- What elements had in this call only, such as cache markers, as JSON: [[part, element, offset, text], ...]
ALTER TABLE requests ADD COLUMN body_edits TEXT;
ALTER TABLE requests ADD COLUMN whole_body_id INTEGER REFERENCES whole_bodies (id);

-- A system block, a tool definition, or a message or item of a conversation
CREATE TABLE elements (
    id INTEGER PRIMARY KEY,
    -- of the whole element: finds it again without putting it together
    hash BLOB NOT NULL UNIQUE,
    -- the element's JSON, with "\\u001a0", "\\u001a1", ... for its long texts
    template TEXT NOT NULL
);

-- Apart from the template, so that a text is stored once whether it was an answer, a prompt or in a request's history
CREATE TABLE element_texts (
    element_id INTEGER NOT NULL REFERENCES elements (id),
    position INTEGER NOT NULL,
    content_id INTEGER NOT NULL REFERENCES contents (id),
    PRIMARY KEY (element_id, position)
) WITHOUT ROWID;

-- An element after all those before it: a request points at the last, and a history that is sent again costs nothing
CREATE TABLE nodes (
    id INTEGER PRIMARY KEY,
    parent_id INTEGER REFERENCES nodes (id),
    element_id INTEGER NOT NULL REFERENCES elements (id)
);
CREATE UNIQUE INDEX nodes_by_parent ON nodes (parent_id, element_id);

-- Bodies that cannot be cut into elements and joined again exactly
CREATE TABLE whole_bodies (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    zstd BLOB NOT NULL
);
"""


def bodies(db: Database) -> None:
    _run(db, BODIES)


CONVERSATIONS = """
ALTER TABLE requests ADD COLUMN previous_id TEXT;
ALTER TABLE requests ADD COLUMN conversation_id TEXT;
ALTER TABLE requests ADD COLUMN cache_write_1h_tokens INTEGER;
ALTER TABLE requests ADD COLUMN cache_miss_microdollars INTEGER;

CREATE INDEX requests_by_conversation ON requests (session_id, agent_id, conversation_id, started_at);
CREATE INDEX requests_by_response ON requests (response_id);
CREATE INDEX requests_by_previous ON requests (previous_id) WHERE previous_id IS NOT NULL;

-- A call and its result have the same link: the call's id, told apart where one request has it twice (rows.py)
ALTER TABLE stored_tool_calls ADD COLUMN link TEXT NOT NULL DEFAULT '';
UPDATE stored_tool_calls SET link = COALESCE(call_id, '');

-- The results a request carries for calls of earlier answers, then those of tools the server ran for its own answer
CREATE TABLE stored_tool_results (
    request_id TEXT NOT NULL REFERENCES requests (id),
    position INTEGER NOT NULL,
    link TEXT NOT NULL,
    -- as the request's history names the call; NULL where that is not sent
    name TEXT,
    result_id INTEGER REFERENCES contents (id),
    is_error INTEGER,
    PRIMARY KEY (request_id, position)
) WITHOUT ROWID;

-- A result answers the latest call of its link, because some providers number the calls of each answer anew, and a
-- call is answered by the first request with its result, because a history may be sent again. Joined when read, so
-- that the order in which calls are stored does not matter.
CREATE VIEW answered_tool_calls AS
-- materialized, SQLite makes an index of it by link and session: by link alone, `call_0` leads to every call there is
WITH asked AS MATERIALIZED (
    SELECT request_id, position, link, name, session_id, agent_id, conversation_id, started_at
    FROM stored_tool_calls JOIN requests ON requests.id = request_id
    WHERE session_id IS NOT NULL
),
answers AS (
    SELECT asked.request_id, asked.position, results.request_id AS result_request_id, result_id, is_error,
           answering.started_at AS answered_at,
           -- a session without ids for its agents may hold conversations at the same time
           MAX((asked.conversation_id IS answering.conversation_id) || asked.started_at)
    FROM stored_tool_results AS results
    JOIN requests AS answering ON answering.id = results.request_id
    JOIN asked ON asked.link = results.link AND asked.session_id = answering.session_id
        AND asked.agent_id IS answering.agent_id
        AND asked.started_at <= answering.started_at AND asked.request_id <> answering.id
        AND (asked.name = results.name) IS NOT 0
    GROUP BY results.request_id, results.position
    UNION ALL
    SELECT calls.request_id, calls.position, results.request_id, result_id, is_error, started_at, NULL
    FROM stored_tool_results AS results
    JOIN stored_tool_calls AS calls USING (request_id, link)
    JOIN requests ON requests.id = request_id
    WHERE executor = 'server'
)
SELECT request_id, position, result_request_id, result_id, is_error, MIN(answered_at) AS answered_at
FROM answers
GROUP BY request_id, position;

DROP VIEW tool_usage;
DROP VIEW tool_results;

CREATE VIEW tool_results AS
SELECT request_id, call_id, name, arguments, text AS result, is_error, result_request_id
FROM answered_tool_calls
JOIN tool_calls USING (request_id, position)
LEFT JOIN contents ON contents.id = result_id;

-- Where no format says whether a tool failed, the sum is NULL, which is to say unknown
CREATE VIEW tool_usage AS
SELECT name, COUNT(*) AS calls, SUM(is_error) AS errors, COUNT(DISTINCT request_id) AS requests
FROM stored_tool_calls LEFT JOIN answered_tool_calls USING (request_id, position)
GROUP BY name;

-- Where each text can be found: what a search goes through
CREATE VIEW texts AS
SELECT id AS request_id, 'system prompt' AS place, NULL AS name, system_prompt_id AS content_id FROM requests
UNION ALL SELECT id, 'user prompt', NULL, user_prompt_id FROM requests
UNION ALL SELECT id, 'reasoning', NULL, reasoning_text_id FROM requests
UNION ALL SELECT id, 'answer', NULL, answer_text_id FROM requests
UNION ALL SELECT request_id, 'tool arguments', name, arguments_id FROM stored_tool_calls
UNION ALL SELECT request_id, 'tool result', name, result_id FROM stored_tool_results;

-- Turns that could have read what the turn before them had left in the provider's cache, and read much less.
-- `rewritten_tokens` were processed again; what that cost is their share of the call's tokens that came from no cache.
CREATE VIEW cache_breaks AS
WITH turns AS (
    SELECT *,
           LAG(id) OVER conversation AS previous_request_id,
           LAG(model) OVER conversation AS previous_model,
           LAG(started_at) OVER conversation AS previous_started_at,
           LAG(COALESCE(cache_read_tokens, 0) + COALESCE(cache_write_tokens, 0)) OVER conversation AS cached,
           -- a prefix lives for five minutes after its last use, or for the hour that was paid for
           CASE WHEN MAX(cache_write_1h_tokens) OVER (conversation ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW) > 0
                THEN 3600 ELSE 300 END AS ttl_seconds
    FROM counted_requests
    WHERE side_request IS NULL AND session_id IS NOT NULL AND input_tokens IS NOT NULL
      AND cache_read_tokens IS NOT NULL
    WINDOW conversation AS (PARTITION BY session_id, agent_id, conversation_id, api_kind ORDER BY started_at, id)
)
SELECT id AS request_id, started_at, session_id, agent_id, model, previous_request_id, previous_model,
       ROUND((julianday(started_at) - julianday(previous_started_at)) * 86400, 3) AS idle_seconds,
       ttl_seconds,
       cached AS cached_tokens,
       cache_read_tokens,
       MIN(cached, input_tokens) - cache_read_tokens AS rewritten_tokens,
       CAST(ROUND(1.0 * cache_miss_microdollars * (MIN(cached, input_tokens) - cache_read_tokens)
                  / (input_tokens - cache_read_tokens)) AS INTEGER) AS cost_microdollars
FROM turns
-- a history that was cut short can be read no further than it reaches
WHERE cache_read_tokens < 0.9 * MIN(cached, input_tokens);
"""


def conversations(db: Database) -> None:
    _run(db, CONVERSATIONS)
    _run(db, USAGE_VIEW.format(view="usage_by_agent", key="session_id, agent_id"))


def review(db: Database) -> None:
    # the kind only: the credential itself is in no database
    db.execute("ALTER TABLE requests ADD COLUMN client_credential TEXT")
    # of the fingerprints in a review's findings, which are worth nothing to whom they are shown without this file
    db.execute("CREATE TABLE review_key (key BLOB NOT NULL)")
    db.execute("INSERT INTO review_key (key) VALUES (?)", [secrets.token_bytes(32)])


ANSWERS = """
CREATE VIEW answers AS
SELECT requests.id AS request_id, answer.text AS answer_text, reasoning.text AS reasoning_text
FROM requests
LEFT JOIN contents AS answer ON answer.id = answer_text_id
LEFT JOIN contents AS reasoning ON reasoning.id = reasoning_text_id;
"""


def answers(db: Database) -> None:
    _run(db, ANSWERS)


FINISHES = """
-- The calls in the order in which they ended, or were changed thereafter (finished.py). Up to where each endpoint has
-- been told of them; the one of the name '' is the database itself, which counts them: the greatest number in use may
-- be that of a row that is removed
CREATE TABLE exports (
    endpoint TEXT PRIMARY KEY,
    finish_sequence INTEGER NOT NULL
) WITHOUT ROWID;
ALTER TABLE requests ADD COLUMN finish_sequence INTEGER;

UPDATE requests SET finish_sequence = place FROM (
    SELECT id, ROW_NUMBER() OVER (ORDER BY started_at, id) AS place FROM requests WHERE outcome <> 'in_flight'
) AS ended
WHERE ended.id = requests.id;
INSERT INTO exports SELECT '', COALESCE(MAX(finish_sequence), 0) FROM requests;
CREATE UNIQUE INDEX requests_by_finish ON requests (finish_sequence);

-- Triggers, so that no way to end or change a call can forget it. Writers take turns, so that numbers are in the order
-- of commits: who has seen one has seen all before it
CREATE TRIGGER request_finished AFTER INSERT ON requests WHEN NEW.outcome <> 'in_flight' BEGIN
    UPDATE exports SET finish_sequence = finish_sequence + 1 WHERE endpoint = '';
    UPDATE requests SET finish_sequence = (SELECT finish_sequence FROM exports WHERE endpoint = '') WHERE id = NEW.id;
END;
CREATE TRIGGER request_changed AFTER UPDATE OF outcome, session_id ON requests WHEN NEW.outcome <> 'in_flight' BEGIN
    UPDATE exports SET finish_sequence = finish_sequence + 1 WHERE endpoint = '';
    UPDATE requests SET finish_sequence = (SELECT finish_sequence FROM exports WHERE endpoint = '') WHERE id = NEW.id;
END;

-- The call with which a person's turn began; never changed, once it is known (turns.py)
ALTER TABLE requests ADD COLUMN turn_id TEXT;
"""


def finishes(db: Database) -> None:
    _run(db, FINISHES)


def traceparent(db: Database) -> None:
    if "traceparent" not in db["requests"].columns_dict:
        db.execute("ALTER TABLE requests ADD COLUMN traceparent TEXT")


HISTORIES = """
-- JSON with escapes spelt out, as words are not told apart where it says `\\n`
CREATE VIEW readable_texts AS
SELECT id,
       CASE WHEN substr(text, 1, 1) IN ('{', '[') AND instr(text, '\\') AND json_valid(text)
            THEN COALESCE(
                (SELECT group_concat(CASE typeof(key) WHEN 'text' THEN key || ': ' ELSE '' END || atom, char(10))
                 FROM json_tree(text) WHERE atom IS NOT NULL), text)
            ELSE text END AS text
FROM contents;

-- of the texts as they were; the next search makes it anew
DROP TABLE IF EXISTS search_index;

-- Besides those of before: the results further back in a history that no call before it has sent. Their link is that of
-- no call where the history has the call's id twice
ALTER TABLE stored_tool_results ADD COLUMN call_id TEXT;
UPDATE stored_tool_results SET call_id = NULLIF(
    CASE WHEN rtrim(link, '0123456789') LIKE '%#' AND link NOT LIKE '%#'
         THEN substr(rtrim(link, '0123456789'), 1, length(rtrim(link, '0123456789')) - 1)
         ELSE link END, '');

CREATE INDEX requests_by_conversation_tip ON requests (conversation_tip_id) WHERE conversation_tip_id IS NOT NULL;

DROP VIEW tool_results;

-- First the results of the calls that were seen. Then those of calls that nobody saw, as in a session that was resumed:
-- what the earliest request with them says of each. Such a call is in no other view, so that it counts nowhere as made.
-- Further back than the newest results a history is read only where bodies are stored (gateway_content=full).
CREATE VIEW tool_results AS
WITH calls AS MATERIALIZED (
    SELECT COALESCE(session_id, conversation_id, '') AS scope, COALESCE(agent_id, '') AS agent,
           COALESCE(call_id, '') AS call_id, name, executor, request_id, started_at
    FROM stored_tool_calls JOIN requests ON requests.id = request_id
),
results AS MATERIALIZED (
    SELECT COALESCE(session_id, conversation_id, '') AS scope, COALESCE(agent_id, '') AS agent,
           call_id, name, result_id, is_error, request_id, position, started_at,
           RANK() OVER (
               PARTITION BY COALESCE(session_id, conversation_id, ''), COALESCE(agent_id, ''),
                            COALESCE(call_id, ' ' || COALESCE(result_id, position))
               ORDER BY started_at, request_id
           ) AS nth
    FROM stored_tool_results JOIN requests ON requests.id = request_id
)
SELECT request_id, call_id, name, arguments, text AS result, is_error, result_request_id
FROM answered_tool_calls
JOIN tool_calls USING (request_id, position)
LEFT JOIN contents ON contents.id = result_id
UNION ALL
SELECT NULL, results.call_id, results.name, NULL, text, is_error, results.request_id
FROM results
LEFT JOIN calls ON calls.scope = results.scope AND calls.agent = results.agent
    AND calls.call_id = COALESCE(results.call_id, '')
    AND (calls.name = results.name) IS NOT 0
    AND (calls.request_id <> results.request_id AND calls.started_at <= results.started_at
         OR calls.request_id = results.request_id AND executor = 'server')
LEFT JOIN contents ON contents.id = result_id
WHERE calls.request_id IS NULL AND nth = 1;
"""


def histories(db: Database) -> None:
    _run(db, HISTORIES)


CACHE_BREAKS = """
-- As before, in a quarter of the time: only the columns that are needed are sorted, and each turn's frame goes on from
-- that of the turn before it, which it does not where a frame leaves out the current row
DROP VIEW cache_breaks;

CREATE VIEW cache_breaks AS
WITH turns AS (
    SELECT id, started_at, session_id, agent_id, model, input_tokens, cache_read_tokens, cache_miss_microdollars,
           LAG(id) OVER conversation AS previous_request_id,
           LAG(model) OVER conversation AS previous_model,
           LAG(started_at) OVER conversation AS previous_started_at,
           LAG(COALESCE(cache_read_tokens, 0) + COALESCE(cache_write_tokens, 0)) OVER conversation AS cached,
           -- a prefix lives for five minutes after its last use, or for the hour that was paid for
           CASE WHEN MAX(cache_write_1h_tokens) OVER (
                    conversation ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) > 0 THEN 3600 ELSE 300 END AS ttl_seconds
    FROM counted_requests
    WHERE side_request IS NULL AND session_id IS NOT NULL AND input_tokens IS NOT NULL
      AND cache_read_tokens IS NOT NULL
    WINDOW conversation AS (PARTITION BY session_id, agent_id, conversation_id, api_kind ORDER BY started_at, id)
)
SELECT id AS request_id, started_at, session_id, agent_id, model, previous_request_id, previous_model,
       ROUND((julianday(started_at) - julianday(previous_started_at)) * 86400, 3) AS idle_seconds,
       ttl_seconds,
       cached AS cached_tokens,
       cache_read_tokens,
       MIN(cached, input_tokens) - cache_read_tokens AS rewritten_tokens,
       CAST(ROUND(1.0 * cache_miss_microdollars * (MIN(cached, input_tokens) - cache_read_tokens)
                  / (input_tokens - cache_read_tokens)) AS INTEGER) AS cost_microdollars
FROM turns
-- a history that was cut short can be read no further than it reaches
WHERE cache_read_tokens < 0.9 * MIN(cached, input_tokens);
"""


def cache_breaks(db: Database) -> None:
    _run(db, CACHE_BREAKS)


def betas(db: Database) -> None:
    if "betas" not in db["requests"].columns_dict:
        db.execute("ALTER TABLE requests ADD COLUMN betas TEXT")


PLAUSIBLE = """
-- Counts that were stored before they had a bound: the sum of two may be more than an integer holds
UPDATE requests SET {column} = NULL WHERE {column} > 1000000000000;
"""


def plausible_counts(db: Database) -> None:
    for column in (
        *("input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens"),
        *("output_tokens", "reasoning_tokens"),
    ):
        db.execute(PLAUSIBLE.format(column=column))


AGENTS = """
ALTER TABLE requests ADD COLUMN agent_name TEXT;
ALTER TABLE requests ADD COLUMN agent_type TEXT;
-- until now no other was recorded
ALTER TABLE requests ADD COLUMN transport TEXT;
UPDATE requests SET transport = 'http';

ALTER TABLE stored_tool_results ADD COLUMN duration_ms REAL;

-- As before, with how long a tool took
DROP VIEW answered_tool_calls;
DROP VIEW tool_results;

CREATE VIEW answered_tool_calls AS
-- materialized, SQLite makes an index of it by link and session: by link alone, `call_0` leads to every call there is
WITH asked AS MATERIALIZED (
    SELECT request_id, position, link, name, session_id, agent_id, conversation_id, started_at
    FROM stored_tool_calls JOIN requests ON requests.id = request_id
    WHERE session_id IS NOT NULL
),
answers AS (
    SELECT asked.request_id, asked.position, results.request_id AS result_request_id, result_id, is_error,
           results.duration_ms, answering.started_at AS answered_at,
           -- a session without ids for its agents may hold conversations at the same time
           MAX((asked.conversation_id IS answering.conversation_id) || asked.started_at)
    FROM stored_tool_results AS results
    JOIN requests AS answering ON answering.id = results.request_id
    JOIN asked ON asked.link = results.link AND asked.session_id = answering.session_id
        AND asked.agent_id IS answering.agent_id
        AND asked.started_at <= answering.started_at AND asked.request_id <> answering.id
        AND (asked.name = results.name) IS NOT 0
    GROUP BY results.request_id, results.position
    UNION ALL
    SELECT calls.request_id, calls.position, results.request_id, result_id, is_error,
           results.duration_ms, started_at, NULL
    FROM stored_tool_results AS results
    JOIN stored_tool_calls AS calls USING (request_id, link)
    JOIN requests ON requests.id = request_id
    WHERE executor = 'server'
)
SELECT request_id, position, result_request_id, result_id, is_error, duration_ms, MIN(answered_at) AS answered_at
FROM answers
GROUP BY request_id, position;

-- First the results of the calls that were seen. Then those of calls that nobody saw, as in a session that was resumed:
-- what the earliest request with them says of each. Such a call is in no other view, so that it counts nowhere as made.
-- Further back than the newest results a history is read only where bodies are stored (gateway_content=full).
CREATE VIEW tool_results AS
WITH calls AS MATERIALIZED (
    SELECT COALESCE(session_id, conversation_id, '') AS scope, COALESCE(agent_id, '') AS agent,
           COALESCE(call_id, '') AS call_id, name, executor, request_id, started_at
    FROM stored_tool_calls JOIN requests ON requests.id = request_id
),
results AS MATERIALIZED (
    SELECT COALESCE(session_id, conversation_id, '') AS scope, COALESCE(agent_id, '') AS agent,
           call_id, name, result_id, is_error, stored_tool_results.duration_ms, request_id, position, started_at,
           RANK() OVER (
               PARTITION BY COALESCE(session_id, conversation_id, ''), COALESCE(agent_id, ''),
                            COALESCE(call_id, ' ' || COALESCE(result_id, position))
               ORDER BY started_at, request_id
           ) AS nth
    FROM stored_tool_results JOIN requests ON requests.id = request_id
)
SELECT request_id, call_id, name, arguments, text AS result, is_error, result_request_id, duration_ms
FROM answered_tool_calls
JOIN tool_calls USING (request_id, position)
LEFT JOIN contents ON contents.id = result_id
UNION ALL
SELECT NULL, results.call_id, results.name, NULL, text, is_error, results.request_id, results.duration_ms
FROM results
LEFT JOIN calls ON calls.scope = results.scope AND calls.agent = results.agent
    AND calls.call_id = COALESCE(results.call_id, '')
    AND (calls.name = results.name) IS NOT 0
    AND (calls.request_id <> results.request_id AND calls.started_at <= results.started_at
         OR calls.request_id = results.request_id AND executor = 'server')
LEFT JOIN contents ON contents.id = result_id
WHERE calls.request_id IS NULL AND nth = 1;
"""


def agents(db: Database) -> None:
    _run(db, AGENTS)


STEPS = (
    *(create_calls, bodies, conversations, review, answers, finishes, traceparent, histories, cache_breaks, betas),
    *(plausible_counts, agents),
)
"""Migrations, oldest first. Their names are recorded in every file: never rename, reorder or edit one; add another."""

MIGRATIONS = Migrations("gateway_addon")
for step in STEPS:
    MIGRATIONS()(step)
