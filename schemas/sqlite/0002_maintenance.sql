-- Spans of time in which traffic of a target is planned and opens no incident. Moments are unix milliseconds.
CREATE TABLE maintenance (
    uuid TEXT PRIMARY KEY,
    workspace_uuid TEXT NOT NULL REFERENCES workspaces (uuid),
    -- One of the two.
    prefix TEXT,
    node_uuid TEXT,
    starts_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL CHECK (ends_at > starts_at),
    reason TEXT NOT NULL,
    resolve_open INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    CHECK ((prefix IS NULL) <> (node_uuid IS NULL))
) STRICT;
CREATE INDEX maintenance_by_age ON maintenance (workspace_uuid, created_at);
CREATE INDEX maintenance_by_end ON maintenance (ends_at);
