-- Folders of the host that a VM's guest can mount.
CREATE TABLE shares (
  vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
  tag TEXT NOT NULL,
  -- Real path, links resolved.
  path TEXT NOT NULL,
  read_only INTEGER NOT NULL CHECK (read_only IN (0, 1)),
  set_id INTEGER NOT NULL CHECK (set_id IN (0, 1)),
  -- Lists of {guest, host, count}; NULL: the guest's root is the daemon's own user.
  uid_map TEXT CHECK (json_valid(uid_map)),
  gid_map TEXT CHECK (json_valid(gid_map)),
  PRIMARY KEY (vm_id, tag)
) STRICT, WITHOUT ROWID;
