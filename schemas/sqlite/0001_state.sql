-- The state of Weir: workspaces, tokens, nodes, incidents, rules, allowlist, audit.
-- Moments are unix milliseconds; uuids are their 36-character text; documents are JSON as the API shows them.

CREATE TABLE workspaces (
    uuid TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    suspended INTEGER NOT NULL DEFAULT 0,
    -- NULL = without end.
    paid_until INTEGER,
    -- Requests a minute and token; NULL = as configured.
    rate_limit INTEGER,
    -- Nodes at most; NULL = as configured.
    nodes_max INTEGER,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    uuid TEXT PRIMARY KEY,
    workspace_uuid TEXT NOT NULL REFERENCES workspaces (uuid),
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    -- SHA-256 of the 64 hex digits; the token itself is nowhere.
    hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    -- The first 8 octets of the hash: candidates are found by it and then compared in constant time.
    hash_start INTEGER NOT NULL,
    -- From WEIR_OWNER_TOKEN: replaced when that changes.
    preset INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER
) STRICT;
CREATE INDEX tokens_by_hash_start ON tokens (hash_start);

CREATE TABLE nodes (
    uuid TEXT PRIMARY KEY,
    workspace_uuid TEXT NOT NULL REFERENCES workspaces (uuid),
    name TEXT NOT NULL,
    -- 16 octets, IPv4 as ::ffff:a.b.c.d.
    ip BLOB NOT NULL CHECK (length(ip) = 16),
    location TEXT,
    os TEXT,
    interface TEXT NOT NULL,
    priority TEXT NOT NULL,
    threshold_pps INTEGER,
    key_hash BLOB NOT NULL CHECK (length(key_hash) = 32),
    created_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT;
CREATE UNIQUE INDEX nodes_by_name ON nodes (workspace_uuid, name) WHERE deleted_at IS NULL;
CREATE INDEX nodes_by_age ON nodes (workspace_uuid, created_at) WHERE deleted_at IS NULL;

CREATE TABLE incidents (
    uuid TEXT PRIMARY KEY,
    workspace_uuid TEXT NOT NULL REFERENCES workspaces (uuid),
    node_uuid TEXT,
    status TEXT NOT NULL,
    -- What a person made of it; holds against what the detector says later.
    edited_status TEXT,
    note TEXT,
    severity TEXT NOT NULL,
    family TEXT NOT NULL,
    target_first BLOB NOT NULL CHECK (length(target_first) = 16),
    target_last BLOB NOT NULL CHECK (length(target_last) = 16),
    started_at INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;
CREATE INDEX incidents_by_start ON incidents (workspace_uuid, started_at);
CREATE INDEX incidents_active ON incidents (workspace_uuid) WHERE status = 'active';

CREATE TABLE rules (
    uuid TEXT PRIMARY KEY,
    workspace_uuid TEXT NOT NULL REFERENCES workspaces (uuid),
    incident_uuid TEXT,
    adapter_id TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- When it was gone, or no longer shown.
    withdrawn_at INTEGER,
    document TEXT NOT NULL
) STRICT;
CREATE INDEX rules_by_age ON rules (workspace_uuid, created_at);
CREATE INDEX rules_by_incident ON rules (incident_uuid);
CREATE INDEX rules_in_force ON rules (created_at) WHERE withdrawn_at IS NULL AND state NOT IN ('withdrawn', 'refused');

CREATE TABLE allowlist (
    uuid TEXT PRIMARY KEY,
    workspace_uuid TEXT NOT NULL REFERENCES workspaces (uuid),
    -- NULL = the whole workspace.
    node_uuid TEXT,
    prefix TEXT NOT NULL,
    label TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX allowlist_by_prefix ON allowlist (workspace_uuid, prefix, coalesce(node_uuid, ''));

-- Single values that outlive a restart, such as the kill switch.
CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- First answers of requests with an Idempotency-Key, sealed with a key made from the caller's token, which is not stored.
CREATE TABLE idempotency (
    token_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    status INTEGER NOT NULL,
    answer BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (token_uuid, key)
) STRICT;
CREATE INDEX idempotency_by_age ON idempotency (created_at);

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    workspace_uuid TEXT NOT NULL,
    token_uuid TEXT,
    actor TEXT NOT NULL,
    address TEXT,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    before TEXT,
    after TEXT
) STRICT;
CREATE INDEX audit_by_age ON audit (workspace_uuid, at);
