/*
 * Disk speed as a guest's program sees it: native asynchronous I/O (io_submit) past the page cache, and reads and writes
 * through it. Prints a line per measurement: name, operations, seconds, checksum of what was read (one word of each block).
 * Each measurement comes after WARM_UP_SECONDS of its kind elsewhere on the disk, so that translators have compiled the code.
 * Usage: guest-disk DEVICE SEQUENTIAL_MIB RANDOM_OPERATIONS [NAME]
 * The disk has three times SEQUENTIAL_MIB: the last third is for warming up.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP_SECONDS 2.0

enum { DEPTH_MAX = 16, BLOCK_MAX = 1 << 20 };

static char *buffers[DEPTH_MAX];
static uint64_t checksum;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t random_state;
static uint64_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static void report(const char *name, long operations, double seconds) {
  printf("%s %ld %.6f %016llx\n", name, operations, seconds, (unsigned long long)checksum);
  fflush(stdout);
}

struct job {
  const char *name;
  int write;
  int random;
  int depth;
  size_t block;
  /* The part of the disk that is used. */
  uint64_t start, bytes;
  long operations;
};

static off_t place(const struct job *job, long n) {
  uint64_t blocks = job->bytes / job->block;
  return job->start + (job->random ? next_random() % blocks : (uint64_t)n % blocks) * job->block;
}

/* Without a report when `quiet`. */
static void run(int fd, const struct job *job, int quiet) {
  aio_context_t context = 0;
  struct iocb control[DEPTH_MAX], *batch[DEPTH_MAX];
  struct io_event events[DEPTH_MAX];
  long started = 0, finished = 0;
  int batched = 0;
  if (syscall(SYS_io_setup, DEPTH_MAX, &context) < 0) fail("io_setup");
  random_state = 0x9e3779b97f4a7c15u;
  checksum = 0;
  memset(control, 0, sizeof control);
  for (int i = 0; i < job->depth; i++) batch[batched++] = &control[i];
  double begun = now();
  while (finished < job->operations) {
    int count = 0;
    for (int i = 0; i < batched && started < job->operations; i++, started++, count++) {
      struct iocb *cb = batch[i];
      int slot = cb - control;
      cb->aio_fildes = fd;
      cb->aio_lio_opcode = job->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
      cb->aio_buf = (uintptr_t)buffers[slot];
      cb->aio_nbytes = job->block;
      cb->aio_offset = place(job, started);
      if (job->write) *(uint64_t *)buffers[slot] = cb->aio_offset ^ 0x5555;
    }
    for (int done = 0; done < count;) {
      long n = syscall(SYS_io_submit, context, count - done, batch + done);
      if (n < 0) fail("io_submit");
      done += n;
    }
    long n = syscall(SYS_io_getevents, context, 1, DEPTH_MAX, events, NULL);
    if (n < 0) fail("io_getevents");
    batched = 0;
    for (long i = 0; i < n; i++) {
      struct iocb *cb = (struct iocb *)(uintptr_t)events[i].obj;
      if (events[i].res != (int64_t)job->block) fail(job->name);
      if (!job->write) checksum += *(uint64_t *)buffers[cb - control] ^ cb->aio_offset;
      batch[batched++] = cb;
    }
    finished += n;
  }
  if (job->write && fdatasync(fd) < 0) fail("fdatasync");
  if (!quiet) report(job->name, job->operations, now() - begun);
  syscall(SYS_io_destroy, context);
}

/* As cat and dd do it: through the guest's page cache, with its read-ahead. */
static void run_buffered(const char *device, const char *name, int write_it, uint64_t start, uint64_t bytes, long passes,
                         int quiet) {
  enum { STEP = 128 << 10 };
  int fd = open(device, O_RDWR);
  if (fd < 0) fail(device);
  checksum = 0;
  double begun = now();
  for (uint64_t done = 0; done < passes * bytes; done += STEP) {
    uint64_t at = start + done % bytes;
    if (done % bytes == 0) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (write_it) *(uint64_t *)buffers[0] = at ^ 0x3333;
    long n = write_it ? pwrite(fd, buffers[0], STEP, at) : pread(fd, buffers[0], STEP, at);
    if (n != STEP) fail(name);
    if (!write_it) checksum += *(uint64_t *)buffers[0] ^ at;
  }
  if (write_it && fdatasync(fd) < 0) fail("fdatasync");
  if (!quiet) report(name, passes * bytes / STEP, now() - begun);
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  close(fd);
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  uint64_t bytes = (uint64_t)atol(argv[2]) << 20;
  long random = atol(argv[3]);
  const char *only = argc > 4 ? argv[4] : NULL;
  int fd = open(argv[1], O_RDWR | O_DIRECT);
  if (fd < 0) fail(argv[1]);
  for (int i = 0; i < DEPTH_MAX; i++) {
    if (posix_memalign((void **)&buffers[i], 4096, BLOCK_MAX) != 0) fail("memory");
    memset(buffers[i], 'a' + i, BLOCK_MAX);
  }
  const size_t large = 256 << 10;
  const long passes = 4, sequential = bytes / large;
  /* Before anything is written all reads come from the backing file; the second third is first written at random. */
  const struct job jobs[] = {
    {"read-sequential", 0, 0, 4, large, 0, bytes, passes * sequential},
    {"read-random-4k-q16", 0, 1, 16, 4096, 0, 2 * bytes, random},
    {"write-sequential", 1, 0, 4, large, 0, bytes, sequential},
    {"rewrite-sequential", 1, 0, 4, large, 0, bytes, passes * sequential},
    {"write-random-4k-q16", 1, 1, 16, 4096, bytes, bytes, random},
    {"rewrite-random-4k-q16", 1, 1, 16, 4096, 0, bytes, random},
    {"reread-sequential", 0, 0, 4, large, 0, bytes, passes * sequential},
    {"reread-random-4k-q16", 0, 1, 16, 4096, 0, 2 * bytes, random},
    {"read-random-4k-q1", 0, 1, 1, 4096, 0, 2 * bytes, random / 4},
  };
  for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
    if (only != NULL && strcmp(only, jobs[i].name) != 0) continue;
    struct job warm = jobs[i];
    warm.start = 2 * bytes;
    warm.bytes = bytes;
    for (double begun = now(); now() - begun < WARM_UP_SECONDS;) run(fd, &warm, 1);
    run(fd, &jobs[i], 0);
  }
  for (int write_it = 0; write_it < 2; write_it++) {
    const char *name = write_it ? "write-buffered" : "read-buffered";
    if (only != NULL && strcmp(only, name) != 0) continue;
    for (double begun = now(); now() - begun < WARM_UP_SECONDS;)
      run_buffered(argv[1], name, write_it, 2 * bytes, bytes, passes / 2, 1);
    run_buffered(argv[1], name, write_it, 0, bytes, passes, 0);
  }
  return 0;
}
