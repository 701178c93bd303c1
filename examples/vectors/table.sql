-- What the owner of the database does once. The extension needs a superuser, or a managed
-- database's own way; pgvector 0.8.4 or newer.
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE IF NOT EXISTS articles (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body text NOT NULL
);

-- The role of the index's pods. With spec.applyPlan it owns the table, as indexes can be made by
-- the owner only; without it, docs/vectors.md has the GRANTs.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'embedding') THEN
        CREATE ROLE embedding LOGIN PASSWORD 'a-password-of-yours';
    END IF;
END $$;
ALTER TABLE articles OWNER TO embedding;
GRANT USAGE, CREATE ON SCHEMA public TO embedding;
