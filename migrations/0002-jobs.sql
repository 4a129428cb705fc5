-- Background jobs of the embedded scheduler (src/scheduler/embedded-jobs.ts). Times are Unix milliseconds.
CREATE TABLE jobs (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  payload TEXT NOT NULL CHECK (json_valid(payload)),
  state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'canceled')),
  -- Runs that were started, without those that a shutdown of the daemon interrupted.
  attempts INTEGER NOT NULL DEFAULT 0,
  max_attempts INTEGER NOT NULL CHECK (max_attempts > 0),
  backoff_ms INTEGER NOT NULL CHECK (backoff_ms >= 0),
  run_at INTEGER NOT NULL,
  -- Names one run: whoever does not hold it any more cannot record a result.
  lease TEXT,
  progress TEXT,
  result TEXT,
  error TEXT,
  created_at INTEGER NOT NULL,
  ended_at INTEGER,
  CHECK ((state = 'running') = (lease IS NOT NULL)),
  CHECK ((state IN ('succeeded', 'failed', 'canceled')) = (ended_at IS NOT NULL))
) STRICT;

CREATE INDEX jobs_due ON jobs (kind, run_at, seq) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (lease) WHERE state = 'running';
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;

-- Jobs that are enqueued again and again.
CREATE TABLE job_repeats (
  name TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  payload TEXT NOT NULL CHECK (json_valid(payload)),
  every_ms INTEGER NOT NULL CHECK (every_ms > 0),
  next_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
