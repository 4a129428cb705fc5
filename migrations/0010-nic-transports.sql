-- A network card is on a network, or has a transport of its own (as in the API). Addresses refer to cards, so they move too.

CREATE TABLE new_nics (
  vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
  device TEXT NOT NULL,
  mac TEXT NOT NULL UNIQUE,
  network_id TEXT REFERENCES networks (id) ON DELETE RESTRICT,
  transport TEXT CHECK (json_valid(transport)),
  -- VLAN, protection, limits and the like, as in the API.
  settings TEXT NOT NULL CHECK (json_valid(settings)),
  PRIMARY KEY (vm_id, device),
  CHECK ((network_id IS NULL) <> (transport IS NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO new_nics SELECT vm_id, device, mac, network_id, NULL, settings FROM nics;

CREATE TABLE new_addresses (
  network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
  address TEXT NOT NULL,
  mac TEXT NOT NULL,
  vm_id TEXT,
  device TEXT,
  -- Order of a network card's addresses: DHCP gives it the first.
  position INTEGER NOT NULL,
  PRIMARY KEY (network_id, address),
  FOREIGN KEY (vm_id, device) REFERENCES new_nics (vm_id, device) ON DELETE CASCADE,
  CHECK ((vm_id IS NULL) = (device IS NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO new_addresses SELECT * FROM addresses;

DROP TABLE addresses;
DROP TABLE nics;
ALTER TABLE new_nics RENAME TO nics;
ALTER TABLE new_addresses RENAME TO addresses;
CREATE INDEX nics_network ON nics (network_id);
CREATE INDEX addresses_nic ON addresses (vm_id, device);
