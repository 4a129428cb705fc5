/**
 * The catalogue of every error a user can meet. The front doors (HTTP, command line, mconsole, jobs)
 * read their status, title and retry advice from here; nobody else invents a code.
 */

interface CatalogueEntry {
  /** HTTP status (RFC 9110). */
  readonly status: number;
  readonly title: string;
  /** The same request may succeed later without being changed. */
  readonly retryable: boolean;
}

const CATALOGUE = {
  // The request
  invalid_input: { status: 400, title: 'The request is not valid', retryable: false },
  unauthenticated: { status: 401, title: 'No valid bearer token', retryable: false },
  forbidden: { status: 403, title: 'The token does not allow this', retryable: false },
  protected: { status: 403, title: 'The resource is protected', retryable: false },
  not_found: { status: 404, title: 'There is no such resource', retryable: false },
  method_not_allowed: { status: 405, title: 'The resource has no such method', retryable: false },
  conflict: { status: 409, title: 'The state of the resource does not allow this', retryable: false },
  already_exists: { status: 409, title: 'The name is taken', retryable: false },
  in_use: { status: 409, title: 'The resource is in use', retryable: false },
  idempotency_in_flight: {
    status: 409,
    title: 'A request with this idempotency key is being carried out',
    retryable: true,
  },
  precondition_failed: { status: 412, title: 'The resource has changed since it was read', retryable: false },
  payload_too_large: { status: 413, title: 'The request body is too large', retryable: false },
  range_not_satisfiable: { status: 416, title: 'The file has no such range', retryable: false },
  unsupported_media_type: { status: 415, title: 'The request body has the wrong type', retryable: false },
  idempotency_mismatch: {
    status: 422,
    title: 'The idempotency key was used for another request',
    retryable: false,
  },
  locked: { status: 423, title: 'The resource is busy with another operation', retryable: true },
  rate_limited: { status: 429, title: 'Too many requests', retryable: true },
  // Kernels, images and disks
  bad_kernel: { status: 422, title: 'The file is not a bootable kernel', retryable: false },
  bad_image: { status: 422, title: 'The image is not usable', retryable: false },
  image_corrupt: { status: 422, title: 'The image differs from its recorded checksum', retryable: false },
  image_truncated: { status: 422, title: 'The image is shorter than it must be', retryable: false },
  bad_file_system: { status: 422, title: 'The file system cannot be read', retryable: false },
  backup_corrupt: { status: 422, title: 'The backup is damaged', retryable: false },
  cow_corrupt: { status: 422, title: 'The copy-on-write file is damaged', retryable: false },
  cow_backing_changed: { status: 422, title: 'The backing file has changed', retryable: false },
  cow_backing_missing: { status: 422, title: 'The backing file is missing', retryable: false },
  cow_backing_self: {
    status: 422,
    title: 'The copy-on-write file is its own backing file',
    retryable: false,
  },
  disk_full: { status: 507, title: 'The host disk is full', retryable: true },
  io_error: { status: 500, title: 'A file of the host could not be read or written', retryable: true },
  // Capacity
  memory_too_small: { status: 422, title: 'Too little guest memory to boot', retryable: false },
  memory_too_large: { status: 422, title: 'More guest memory than this host can give', retryable: false },
  memory_exhausted: { status: 503, title: 'The host has no memory left for this guest', retryable: true },
  quota_exceeded: { status: 422, title: 'A limit has been reached', retryable: false },
  // Machines
  machine_failed: { status: 502, title: 'The virtual machine failed', retryable: true },
  guest_not_responding: { status: 504, title: 'The guest did not react in time', retryable: true },
  // Work in the background
  job_failed: { status: 500, title: 'The job failed', retryable: true },
  canceled: { status: 409, title: 'The operation was canceled', retryable: false },
  interrupted: { status: 503, title: 'The operation was interrupted', retryable: true },
  unreachable: { status: 502, title: 'A service that is needed cannot be reached', retryable: true },
  tool_missing: { status: 501, title: 'A program that is needed is not installed', retryable: false },
  unsupported: { status: 501, title: 'This is not supported', retryable: false },
  shutting_down: { status: 503, title: 'The daemon is shutting down', retryable: true },
  // The daemon itself
  port_in_use: { status: 500, title: 'The port is in use', retryable: true },
  home_in_use: { status: 500, title: 'The state folder is in use by another daemon', retryable: true },
  home_unusable: { status: 500, title: 'The state folder cannot be used', retryable: false },
  database_newer: { status: 500, title: 'The database was made by a newer version', retryable: false },
  database_corrupt: { status: 500, title: 'The database is damaged', retryable: false },
  internal: { status: 500, title: 'Internal error', retryable: true },
} as const satisfies Record<string, CatalogueEntry>;

export type ErrorCode = keyof typeof CATALOGUE;

/** Every code, in catalogue order. */
export const ERROR_CODES = Object.keys(CATALOGUE) as [ErrorCode, ...ErrorCode[]];

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(CATALOGUE, value);
}

export function errorEntry(code: ErrorCode): CatalogueEntry {
  return CATALOGUE[code];
}

export interface AppErrorOptions {
  /** The field of the input at fault, as the user wrote it: `memory_bytes`, `disks[1].image`, `--kernel`. */
  readonly field?: string | undefined;
  /** What the user can do about it, one sentence. */
  readonly remedy?: string | undefined;
  readonly cause?: unknown;
}

/** An error that can be sent to another thread or kept in the database. */
export interface PlainError {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly field?: string | undefined;
  readonly remedy?: string | undefined;
}

/** An expected failure. `message` (= `detail`) says what is wrong in this case, with figures and names. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly field: string | undefined;
  readonly remedy: string | undefined;

  constructor(code: ErrorCode, detail: string, options: AppErrorOptions = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AppError';
    this.code = code;
    this.field = options.field;
    this.remedy = options.remedy;
  }

  get detail(): string {
    return this.message;
  }
  get status(): number {
    return CATALOGUE[this.code].status;
  }
  get title(): string {
    return CATALOGUE[this.code].title;
  }
  get retryable(): boolean {
    return CATALOGUE[this.code].retryable;
  }

  toPlain(): PlainError {
    return { code: this.code, detail: this.message, field: this.field, remedy: this.remedy };
  }

  static fromPlain(plain: PlainError): AppError {
    return new AppError(plain.code, plain.detail, { field: plain.field, remedy: plain.remedy });
  }
}

/** Node's error code (`ENOSPC`, `ENOENT`, …) of a system error, if it is one. */
export function systemErrorCode(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return undefined;
}

const SYSTEM_CODES: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: 'disk_full',
  EDQUOT: 'disk_full',
  EIO: 'io_error',
  ENOENT: 'not_found',
};

/** Any thrown value as an AppError: itself, a system error by its code, everything else `internal`. */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  const detail = error instanceof Error ? error.message : String(error);
  const code = systemErrorCode(error);
  const mapped = code === undefined ? undefined : SYSTEM_CODES[code];
  return new AppError(mapped ?? 'internal', detail, { cause: error });
}
