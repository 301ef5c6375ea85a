-- What agents did to objects, as their reports told it; outlives the agent's memory and the unit.
CREATE TABLE history (
    cluster   TEXT NOT NULL REFERENCES cluster (id),
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    kind      TEXT NOT NULL,
    at        BIGINT NOT NULL, -- the agent's clock
    digest    TEXT NOT NULL, -- of the entry: it is told again with every report of its unit
    entry     TEXT NOT NULL,
    PRIMARY KEY (cluster, namespace, name, kind, at, digest)
);
CREATE INDEX history_at ON history (at);
