-- Files of a guest's /proc that are the host's, or hidden: a list of {path, source}, as the API has them.
ALTER TABLE vms ADD COLUMN proc_files TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(proc_files));
