-- What clusters tell of themselves: the newest of each.
CREATE TABLE cluster_facts (
    cluster  TEXT PRIMARY KEY REFERENCES cluster (id),
    received BIGINT NOT NULL,
    digest   TEXT NOT NULL,
    facts    TEXT NOT NULL
);
