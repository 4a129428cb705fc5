-- Sets of rules that network cards name in their settings.
CREATE TABLE firewalls (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  rules TEXT NOT NULL CHECK (json_valid(rules)),
  created_at INTEGER NOT NULL,
  UNIQUE (tenant, name)
) STRICT;
