-- The newest certificate of a cluster until an agent shows it: its answer may be lost, and is given again to the same key.
CREATE TABLE unseen_certificate (
    cluster TEXT PRIMARY KEY REFERENCES cluster (id),
    der     BYTEA NOT NULL
);
