-- One row for each conversation that ever had a process.
CREATE TABLE conversations (
    session_key  TEXT    PRIMARY KEY,
    principal    TEXT    NOT NULL,
    -- The CLI's id, for --session-id and --resume.
    conversation TEXT    NOT NULL UNIQUE,
    unix_user    TEXT    NOT NULL,
    workspace    TEXT    NOT NULL,
    -- Seconds since 1970.
    created      INTEGER NOT NULL,
    last_used    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
