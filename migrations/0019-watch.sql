-- What is logged of a guest from outside: a list of exec, open, connect, tty.
ALTER TABLE vms ADD COLUMN watch TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(watch));
