-- What VMs' consoles and serial lines are joined to on the host, in UML's words. One without a row is joined to nothing.

CREATE TABLE vm_lines (
  vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
  -- con0 to con15, ssl0 to ssl3
  line TEXT NOT NULL,
  -- pts, port:9000, null,tty:/dev/ttyUSB0, …
  channel TEXT NOT NULL,
  PRIMARY KEY (vm_id, line)
) STRICT, WITHOUT ROWID;
