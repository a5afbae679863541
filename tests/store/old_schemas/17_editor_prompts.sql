CREATE TABLE editor_prompts (
    position INTEGER PRIMARY KEY,
    prompt_id TEXT NOT NULL UNIQUE
);
INSERT INTO migrations VALUES ('editor_prompts', '2026-01-11T00:00:00.000Z');
INSERT INTO editor_prompts (position, prompt_id) VALUES (1, 'of-the-editor');
