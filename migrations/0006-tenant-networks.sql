-- Networks belong to tenants, network cards have settings, and addresses are kept for them.
-- What existed before was everybody's and stays so.

CREATE TABLE new_networks (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  -- Other tenants may plug their VMs in too.
  shared INTEGER NOT NULL CHECK (shared IN (0, 1)),
  subnet TEXT NOT NULL,
  -- The rest of what it was made with, as in the API.
  settings TEXT NOT NULL CHECK (json_valid(settings)),
  created_at INTEGER NOT NULL,
  UNIQUE (tenant, name)
) STRICT;
INSERT INTO new_networks SELECT seq, id, 'default', name, 1, subnet, '{}', created_at FROM networks;

CREATE TABLE new_nics (
  vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
  device TEXT NOT NULL,
  mac TEXT NOT NULL UNIQUE,
  network_id TEXT NOT NULL REFERENCES new_networks (id) ON DELETE RESTRICT,
  -- VLAN, protection, limits and the like, as in the API.
  settings TEXT NOT NULL CHECK (json_valid(settings)),
  PRIMARY KEY (vm_id, device)
) STRICT, WITHOUT ROWID;
INSERT INTO new_nics SELECT vm_id, device, mac, network_id, '{}' FROM nics;

DROP TABLE nics;
DROP TABLE networks;
ALTER TABLE new_networks RENAME TO networks;
ALTER TABLE new_nics RENAME TO nics;
CREATE INDEX nics_network ON nics (network_id);

-- Whose an address of a network is: a network card's, or that of a station which is no VM of ours (a reservation).
CREATE TABLE addresses (
  network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
  address TEXT NOT NULL,
  mac TEXT NOT NULL,
  vm_id TEXT,
  device TEXT,
  -- Order of a network card's addresses: DHCP gives it the first.
  position INTEGER NOT NULL,
  PRIMARY KEY (network_id, address),
  FOREIGN KEY (vm_id, device) REFERENCES nics (vm_id, device) ON DELETE CASCADE,
  CHECK ((vm_id IS NULL) = (device IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX addresses_nic ON addresses (vm_id, device);
