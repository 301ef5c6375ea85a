-- The same text runs on SQLite and PostgreSQL. SQLite reads BIGINT as an integer and keeps bytes in a BYTEA column as they
-- are; both number parameters as $1. Times are Unix milliseconds unless a name says otherwise; ids and digests are
-- lower-case hex; structured values are JSON text.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE cluster (
    id                   TEXT PRIMARY KEY,
    name                 TEXT NOT NULL,
    labels               TEXT NOT NULL,
    kube_uid             TEXT NOT NULL,
    state                TEXT NOT NULL,
    agent_key            TEXT NOT NULL,   -- BLAKE3 of the agent's public key (SPKI): the same key may enrol again
    certificate          TEXT NOT NULL,   -- BLAKE3 of the newest certificate issued
    certificate_previous TEXT,            -- accepted until the newest was seen once
    certificate_serial   TEXT NOT NULL,
    certificate_expires  BIGINT NOT NULL,
    certificate_count    BIGINT NOT NULL, -- certificates issued so far
    session              BIGINT NOT NULL, -- sessions opened so far
    reports_taken        BIGINT NOT NULL, -- the highest report number stored
    reports_session      BIGINT NOT NULL, -- the session it came in
    last_seen            BIGINT,
    created              BIGINT NOT NULL
);
-- A revoked cluster keeps its row for the audit and gives its name and its kube-system UID free.
CREATE UNIQUE INDEX cluster_name ON cluster (name) WHERE state = 'active';
CREATE UNIQUE INDEX cluster_kube_uid ON cluster (kube_uid) WHERE state = 'active';

CREATE TABLE join_token (
    id         TEXT PRIMARY KEY,
    hash       BYTEA NOT NULL, -- of the secret; the secret itself is never here
    name       TEXT NOT NULL,
    labels     TEXT NOT NULL,
    created    BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires    BIGINT NOT NULL,
    failures   BIGINT NOT NULL,
    used_at    BIGINT,
    used_by    TEXT
);

CREATE TABLE trust_document (
    version    BIGINT PRIMARY KEY,
    statement  BYTEA NOT NULL, -- the bytes as signed
    signatures TEXT NOT NULL
);

CREATE TABLE source (
    id            TEXT PRIMARY KEY,
    url           TEXT NOT NULL, -- never with a credential
    reference     TEXT NOT NULL,
    last_good     TEXT,
    last_good_at  BIGINT,
    code          TEXT NOT NULL,
    message       TEXT NOT NULL,
    attempted_at  BIGINT NOT NULL,
    since         BIGINT NOT NULL
);

-- The last two heads of every cluster.
CREATE TABLE head (
    cluster      TEXT NOT NULL REFERENCES cluster (id),
    trust_epoch  BIGINT NOT NULL,
    epoch        BIGINT NOT NULL,
    sequence     BIGINT NOT NULL,
    index_digest TEXT NOT NULL,
    content      TEXT NOT NULL, -- the index as it is without operator intents: what a freeze pins
    revisions    TEXT NOT NULL,
    statement    BYTEA NOT NULL, -- the bytes as signed
    signatures   TEXT NOT NULL,
    offered_at   BIGINT NOT NULL,
    expires      BIGINT NOT NULL, -- Unix seconds
    taken_at     BIGINT,
    refused_code TEXT,
    refused_message TEXT,
    PRIMARY KEY (cluster, trust_epoch, epoch, sequence)
);

CREATE TABLE blob (
    digest  TEXT PRIMARY KEY,
    raw_len BIGINT NOT NULL,
    bytes   BYTEA NOT NULL -- zstd
);
-- Index to body, body to object. A blob is stored together with everything below it, and goes together with it.
CREATE TABLE blob_link (
    parent TEXT NOT NULL,
    child  TEXT NOT NULL,
    PRIMARY KEY (parent, child)
);

CREATE TABLE intent (
    id      TEXT PRIMARY KEY,
    intent  TEXT NOT NULL,
    actor   TEXT NOT NULL,
    at      BIGINT NOT NULL,
    reason  TEXT NOT NULL
);

CREATE TABLE cluster_report (
    cluster  TEXT PRIMARY KEY REFERENCES cluster (id),
    received BIGINT NOT NULL,
    report   TEXT NOT NULL
);

CREATE TABLE unit_report (
    cluster   TEXT NOT NULL REFERENCES cluster (id),
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    kind      TEXT NOT NULL,
    received  BIGINT NOT NULL,
    report    TEXT NOT NULL,
    PRIMARY KEY (cluster, namespace, name, kind)
);

-- Append-only; each row's hash covers the row before.
CREATE TABLE audit (
    n      BIGINT PRIMARY KEY,
    at     BIGINT NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash   TEXT NOT NULL
);
-- One row: the end of the chain, so that a cut tail shows, and the lock that orders appends.
CREATE TABLE audit_head (
    id   BIGINT PRIMARY KEY,
    n    BIGINT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO audit_head (id, n, hash) VALUES (1, 0, '');
