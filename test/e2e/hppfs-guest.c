/* Reads a file by every system call that reads files, and prints what each had: NAME, then the result in hexadecimal or -errno. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char buffer[1 << 17];

static void report(const char *name, const char *bytes, long length) {
  if (length < 0) {
    printf("%s %d\n", name, -errno);
    return;
  }
  unsigned hash = 5381;
  for (long i = 0; i < length; i++) hash = hash * 33 + (unsigned char)bytes[i];
  printf("%s %ld %08x\n", name, length, hash);
}

static void from_pipe(const char *name, int pipe_end, long length) {
  long got = length > 0 ? read(pipe_end, buffer, length) : length;
  report(name, buffer, got);
}

/* One IORING_OP_READ by system calls alone. */
static long uring_read(int fd, char *to, unsigned length, uint64_t offset) {
  struct io_uring_params params;
  memset(&params, 0, sizeof params);
  int ring = syscall(SYS_io_uring_setup, 1, &params);
  if (ring < 0) return ring;
  char *sq = mmap(0, params.sq_off.array + params.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
  char *cq = mmap(0, params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_CQ_RING);
  struct io_uring_sqe *sqes = mmap(0, params.sq_entries * sizeof *sqes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
  memset(sqes, 0, sizeof *sqes);
  sqes[0].opcode = IORING_OP_READ;
  sqes[0].fd = fd;
  sqes[0].addr = (uint64_t)(uintptr_t)to;
  sqes[0].len = length;
  sqes[0].off = offset;
  ((unsigned *)(sq + params.sq_off.array))[0] = 0;
  __atomic_store_n((unsigned *)(sq + params.sq_off.tail), 1, __ATOMIC_RELEASE);
  if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) < 0) return -1;
  struct io_uring_cqe *cqe = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
  int result = cqe[0].res;
  close(ring);
  if (result < 0) errno = -result;
  return result < 0 ? -1 : result;
}

int main(int count, char **arguments) {
  const char *path = arguments[1];
  long size = atol(arguments[2]);
  int fd = open(path, O_RDONLY), ends[2];
  if (fd < 0 || pipe(ends) || fcntl(ends[1], F_SETPIPE_SZ, 1 << 17) < 0) {
    printf("open %d\n", -errno);
    return 1;
  }
  report("read", buffer, read(fd, buffer, sizeof buffer));
  report("end", buffer, read(fd, buffer, sizeof buffer));
  long total = 0;
  lseek(fd, 0, SEEK_SET);
  while (read(fd, buffer + total, 1) == 1) total++;
  report("bytes", buffer, total);
  report("pread", buffer, pread(fd, buffer, sizeof buffer, 10));
  struct iovec parts[3] = {{buffer, 7}, {buffer + 7, 4096}, {buffer + 4103, sizeof buffer - 4103}};
  lseek(fd, 0, SEEK_SET);
  report("readv", buffer, readv(fd, parts, 3));
  report("preadv", buffer, preadv(fd, parts, 3, 10));
  char *untouched = mmap(0, 1 << 17, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  report("untouched", untouched, pread(fd, untouched, 1 << 17, 0));
  int shared = open("/tmp/mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (ftruncate(shared, 1 << 17)) return 1;
  char *mapped = mmap(0, 1 << 17, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
  report("mapped", mapped, pread(fd, mapped, 1 << 17, 0));
  char *constant = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  report("constant", constant, pread(fd, constant, 4096, 0));
  report("nowhere", 0, pread(fd, (void *)0x1000, 64, 0));
  report("kernel", 0, pread(fd, (void *)0xffffffff81000000, 64, 0));
  /* The second page is not there: so much as goes is read. */
  char *edge = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(edge + 4096, 4096);
  report("edge", edge + 4000, pread(fd, edge + 4000, 4096, 0));
  int out = open("/tmp/out", O_RDWR | O_CREAT | O_TRUNC, 0600);
  off_t at = 0;
  long sent = sendfile(out, fd, &at, sizeof buffer);
  if (sent > 0) sent = pread(out, buffer, sizeof buffer, 0);
  report("sendfile", buffer, sent);
  lseek(fd, 0, SEEK_SET);
  from_pipe("splice", ends[0], splice(fd, 0, ends[1], 0, 1 << 16, 0));
  if (ftruncate(out, 0)) return 1;
  loff_t in = 0, to = 0;
  report("copy_file_range", buffer, copy_file_range(fd, &in, out, &to, size, 0));
  report("io_uring", buffer, uring_read(fd, buffer, sizeof buffer, 0));
  printf("done\n");
  return 0;
}
