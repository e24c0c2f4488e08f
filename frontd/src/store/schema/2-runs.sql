-- A session key once: runs name it by number.
CREATE TABLE session_keys (
    number      INTEGER PRIMARY KEY,
    session_key TEXT    NOT NULL UNIQUE
) STRICT;

CREATE TABLE runs (
    number          INTEGER PRIMARY KEY,
    id              BLOB    NOT NULL UNIQUE,
    -- Of session_keys.
    session         INTEGER NOT NULL,
    principal       TEXT    NOT NULL,
    model           TEXT    NOT NULL,
    -- Milliseconds since 1970, as all times here.
    created         INTEGER NOT NULL,
    idempotency_key TEXT,
    fingerprint     BLOB,
    client_message  TEXT,
    pushed          INTEGER NOT NULL DEFAULT 0,
    -- Events happened that could not be stored.
    incomplete      INTEGER NOT NULL DEFAULT 0,
    -- From here on NULL until the end.
    finished        INTEGER,
    -- JSON, as in the last event.
    outcome         TEXT,
    last_seq        INTEGER,
    bytes           INTEGER,
    -- The first event that is kept.
    first_seq       INTEGER NOT NULL DEFAULT 1,
    -- Has retention left the last event alone?
    reduced         INTEGER NOT NULL DEFAULT 0,
    input_tokens    INTEGER,
    output_tokens   INTEGER,
    cache_read_input_tokens     INTEGER,
    cache_creation_input_tokens INTEGER
) STRICT;

CREATE INDEX runs_by_session ON runs (session);
CREATE UNIQUE INDEX runs_by_idempotency_key ON runs (principal, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
-- Retention's: a run under way is not in it.
CREATE INDEX runs_by_end ON runs (reduced, finished) WHERE finished IS NOT NULL;

-- The runs under way, and what a restart needs to go on with them.
CREATE TABLE open_runs (
    run    INTEGER PRIMARY KEY,
    prompt TEXT    NOT NULL
) STRICT;

CREATE TABLE files (
    run        INTEGER NOT NULL,
    place      INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    media_type TEXT    NOT NULL,
    data       BLOB    NOT NULL,
    PRIMARY KEY (run, place)
) STRICT, WITHOUT ROWID;

-- By run and place within it, in one number: rows are appended to full pages and may fill them
-- (of a table without rowid, a row of more than a quarter page has pages of its own).
CREATE TABLE events (
    -- run << 32 | seq
    id   INTEGER PRIMARY KEY,
    at   INTEGER NOT NULL,
    json BLOB    NOT NULL
) STRICT;

-- Runs that were forgotten; their events go in small steps.
CREATE TABLE forgotten_runs (run INTEGER PRIMARY KEY) STRICT;

-- Hashes of the person's messages that the session's claude has seen, in order.
CREATE TABLE seen (
    session INTEGER NOT NULL,
    place   INTEGER NOT NULL,
    hash    INTEGER NOT NULL,
    PRIMARY KEY (session, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE processes (
    id           TEXT    PRIMARY KEY,
    session_key  TEXT    NOT NULL,
    conversation TEXT    NOT NULL,
    uid          INTEGER NOT NULL,
    secret_hash  BLOB    NOT NULL,
    last_seq     INTEGER NOT NULL,
    started      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
