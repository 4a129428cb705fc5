-- Ports of the host that lead to addresses of networks.
CREATE TABLE forwards (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
  protocol TEXT NOT NULL CHECK (protocol IN ('tcp', 'udp')),
  host_address TEXT NOT NULL,
  host_port INTEGER NOT NULL,
  address TEXT NOT NULL,
  port INTEGER NOT NULL,
  UNIQUE (protocol, host_address, host_port)
) STRICT;
CREATE INDEX forwards_network ON forwards (network_id);
