BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'gateway_addon','create_calls','2026-10-01 07:59:00');
CREATE TABLE contents (
    id INTEGER PRIMARY KEY,
    -- finds a text again without an index as large as the texts
    hash BLOB NOT NULL UNIQUE,
    text TEXT NOT NULL
);
INSERT INTO "contents" VALUES(1,X'FC9483482E72494F4B91BD5614320CE5','Answer in one line.');
INSERT INTO "contents" VALUES(2,X'85E8AC8F9C82AD11DD8FE30AACBFC2B7','Which file holds the ranks?');
INSERT INTO "contents" VALUES(3,X'ED7CEAB3BB3D9374BB6ECF02C8B701BD','{"pattern": "rank"}');
INSERT INTO "contents" VALUES(4,X'97F16702CC44AC8747886E7413224F38','One match only.');
INSERT INTO "contents" VALUES(5,X'01AA0E042CEB0ED0821BA4E45B11BC4A','They are in scores.py.');
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
INSERT INTO "requests" VALUES('call-1','run-1','2026-10-01T08:00:00.000Z','live','messages','complete',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'acme/model',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1200,NULL,NULL,30,NULL,NULL,NULL,4100,NULL,NULL,NULL,'[]','claude-code',NULL,'s-1',NULL,NULL,NULL,NULL,NULL,NULL,2048,NULL,'[]','[]',1,2,NULL,NULL,1);
INSERT INTO "requests" VALUES('call-2','run-1','2026-10-01T08:00:05.000Z','live','messages','complete',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'acme/model',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1300,NULL,NULL,12,NULL,NULL,NULL,4300,NULL,NULL,NULL,'[]','claude-code',NULL,'s-1',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]','[]',1,2,4,5,1);
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
INSERT INTO "runs" VALUES('run-1',4242,NULL,'2026-10-01T07:59:00.000Z','2026-10-01T09:00:00.000Z','0.1.0');
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
INSERT INTO "stored_tool_calls" VALUES('call-1',0,'toolu_1','grep','tool_use','client',3,1);
CREATE TABLE tool_sets (
    id INTEGER PRIMARY KEY,
    names TEXT NOT NULL UNIQUE
);
INSERT INTO "tool_sets" VALUES(1,'["read_file", "grep"]');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX requests_by_time ON requests (started_at);
CREATE INDEX requests_in_flight ON requests (run_id) WHERE outcome = 'in_flight';
CREATE VIEW tool_calls AS
SELECT request_id, position, call_id, name, type, executor, contents.text AS arguments, arguments_valid
FROM stored_tool_calls LEFT JOIN contents ON contents.id = arguments_id;
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
CREATE VIEW tool_usage AS
SELECT name, COUNT(*) AS calls, SUM(is_error) AS errors, COUNT(DISTINCT request_id) AS requests
FROM tool_calls LEFT JOIN tool_results USING (request_id, call_id, name)
GROUP BY name;
CREATE VIEW counted_requests AS
SELECT *,
       COALESCE(upstream_model, request_model) AS model,
       substr(started_at, 1, 10) AS day,
       outcome IN ('stream_error', 'http_error', 'unreadable', 'upstream_cut') AS is_error
FROM requests
WHERE outcome NOT IN ('rejected', 'in_flight') AND NOT (source = 'replay' AND instr(id, '~') = 0);
CREATE VIEW usage_by_model AS
SELECT model,
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
FROM counted_requests GROUP BY model;
CREATE VIEW usage_by_day AS
SELECT day,
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
FROM counted_requests GROUP BY day;
CREATE VIEW usage_by_session AS
SELECT session_id,
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
FROM counted_requests GROUP BY session_id;
CREATE VIEW usage_by_client AS
SELECT client,
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
FROM counted_requests GROUP BY client;
COMMIT;
