/*
 * Compute suite: each program prints its name, the seconds it took and a checksum of its results, which must be
 * the same wherever it runs. Arguments choose programs by name. Build: gcc -O2 -static -o suite suite.c -lm
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <emmintrin.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint8_t u8;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static u64 seed = 88172645463325252ull;
static u64 next_random(void) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

static u64 sieve(void) {
  enum { N = 5000000 };
  u8 *composite = calloc(N, 1);
  u64 count = 0;
  for (u32 i = 2; i < N; i++) {
    if (composite[i]) continue;
    count++;
    for (u64 j = (u64)i * i; j < N; j += i) composite[j] = 1;
  }
  free(composite);
  return count;
}

static u64 mix64(void) {
  u64 x = 1, h = 0xcbf29ce484222325ull;
  for (u32 i = 0; i < 30000000; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    h = (h ^ (x & 0xff)) * 0x100000001b3ull;
  }
  return h;
}

static u64 mandelbrot(void) {
  u64 sum = 0;
  for (int py = 0; py < 160; py++)
    for (int px = 0; px < 160; px++) {
      double cx = px / 80.0 - 1.5, cy = py / 80.0 - 1.0, x = 0, y = 0;
      int n = 0;
      while (n < 200 && x * x + y * y < 4) {
        double t = x * x - y * y + cx;
        y = 2 * x * y + cy;
        x = t;
        n++;
      }
      sum += n;
    }
  return sum;
}

static u64 matrix(void) {
  enum { N = 180 };
  static double a[N][N], b[N][N], c[N][N];
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) {
      a[i][j] = i * 0.5 + j;
      b[i][j] = i - j * 0.25;
    }
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) {
      double s = 0;
      for (int k = 0; k < N; k++) s += a[i][k] * b[k][j];
      c[i][j] = s;
    }
  double total = 0;
  for (int i = 0; i < N; i++) total += c[i][(i * 7) % N];
  return (u64)(int64_t)total;
}

static u64 simd(void) {
  enum { N = 4096 };
  static u8 data[N] __attribute__((aligned(16)));
  for (int i = 0; i < N; i++) data[i] = i * 31;
  __m128i sum = _mm_setzero_si128();
  for (int round = 0; round < 4000; round++)
    for (int i = 0; i < N; i += 16) {
      __m128i v = _mm_load_si128((__m128i *)(data + i));
      v = _mm_add_epi8(v, _mm_set1_epi8(round));
      sum = _mm_add_epi64(sum, _mm_sad_epu8(v, _mm_setzero_si128()));
    }
  return _mm_cvtsi128_si64(sum) + _mm_cvtsi128_si64(_mm_unpackhi_epi64(sum, sum));
}

static u64 f0(u64 x) { return x + 1; }
static u64 f1(u64 x) { return x * 3; }
static u64 f2(u64 x) { return x ^ (x >> 5); }
static u64 f3(u64 x) { return x - 7; }
static u64 indirect(void) {
  static u64 (*volatile table[4])(u64) = {f0, f1, f2, f3};
  u64 x = 1;
  for (u32 i = 0; i < 10000000; i++) x = table[(x ^ i) & 3](x);
  return x;
}

static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static int (*volatile fib_pointer)(int) = fib;
static u64 recursion(void) { return fib_pointer(32); }

static u64 copies(void) {
  enum { N = 1 << 20 };
  u8 *a = malloc(N), *b = malloc(N);
  u64 sum = 0;
  for (int i = 0; i < 200; i++) {
    memset(a, i, N);
    memcpy(b, a, N);
    sum += b[i * 977];
  }
  free(a);
  free(b);
  return sum;
}

static u64 string_ops(void) {
  static char text[65536];
  u64 sum = 0;
  for (int i = 0; i < 65535; i++) text[i] = 'a' + i % 23;
  for (int i = 0; i < 1500; i++) {
    text[(i * 37) % 65000] = 'z';
    sum += strlen(text) + (u64)(strchr(text + i, 'z') - text);
    u64 n = 512;
    void *to = text + 1000, *from = text + 30000;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n)::"memory");
  }
  return sum;
}

static int compare_ints(const void *a, const void *b) {
  int x = *(const int *)a, y = *(const int *)b;
  return (x > y) - (x < y);
}
static u64 sorting(void) {
  enum { N = 300000 };
  int *v = malloc(N * sizeof(int));
  seed = 88172645463325252ull;
  for (int i = 0; i < N; i++) v[i] = (int)next_random();
  qsort(v, N, sizeof(int), compare_ints);
  u64 sum = 0;
  for (int i = 0; i < N; i += 1000) sum = sum * 31 + (u32)v[i];
  free(v);
  return sum;
}

static u64 hashing(void) {
  enum { BITS = 16, N = 1 << BITS };
  static u64 keys[N], values[N];
  memset(keys, 0, sizeof keys);
  u64 sum = 0;
  seed = 1234567;
  for (int i = 0; i < 3000000; i++) {
    u64 key = next_random() % 40000 + 1;
    u64 slot = (key * 0x9e3779b97f4a7c15ull) >> (64 - BITS);
    while (keys[slot] && keys[slot] != key) slot = (slot + 1) % N;
    keys[slot] = key;
    sum += ++values[slot];
  }
  return sum;
}

static u64 pointers(void) {
  enum { N = 1 << 20 };
  u32 *next = malloc((u64)N * 64);
  for (u32 i = 0; i < N; i++) next[i * 16] = (u32)((i * 2654435761u + 12345u) & (N - 1));
  u32 at = 0;
  u64 sum = 0;
  for (int i = 0; i < 6000000; i++) {
    at = next[at * 16] ^ (i & 1);
    sum += at;
  }
  free(next);
  return sum;
}

static u64 syscalls(void) {
  u64 sum = 0;
  for (int i = 0; i < 200000; i++) sum += syscall(SYS_getppid) > 0;
  return sum;
}

static u64 page_faults(void) {
  u64 sum = 0;
  for (int i = 0; i < 12; i++) {
    u8 *p = mmap(0, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int at = 0; at < 8 << 20; at += 4096) p[at] = 1, sum += p[at];
    munmap(p, 8 << 20);
  }
  return sum;
}

static u64 forks(void) {
  u64 sum = 0;
  for (int i = 0; i < 200; i++) {
    pid_t child = fork();
    if (child == 0) _exit(i & 7);
    int status;
    waitpid(child, &status, 0);
    sum += WEXITSTATUS(status);
  }
  return sum;
}

static u64 execs(void) {
  u64 sum = 0;
  for (int i = 0; i < 100; i++) {
    pid_t child = fork();
    if (child == 0) {
      execl("/proc/self/exe", "suite", "--exit", (char *)0);
      _exit(127);
    }
    int status;
    waitpid(child, &status, 0);
    sum += WEXITSTATUS(status);
  }
  return sum;
}

static u64 pipes(void) {
  int there[2], back[2];
  if (pipe(there) || pipe(back)) return 0;
  pid_t child = fork();
  u64 sum = 0;
  if (child == 0) {
    u8 byte;
    while (read(there[0], &byte, 1) == 1 && byte != 255) {
      byte++;
      if (write(back[1], &byte, 1) != 1) break;
    }
    _exit(0);
  }
  for (int i = 0; i < 10000; i++) {
    u8 byte = i % 200;
    if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) return 0;
    sum += byte;
  }
  u8 end = 255;
  if (write(there[1], &end, 1) != 1) return 0;
  waitpid(child, 0, 0);
  return sum;
}

static u64 self_modifying(void) {
  u8 *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  u64 sum = 0;
  /* mov eax, imm32; ret */
  code[0] = 0xb8;
  code[5] = 0xc3;
  for (u32 i = 0; i < 20000; i++) {
    memcpy(code + 1, &i, 4);
    sum += ((u32(*)(void))code)();
  }
  munmap(code, 4096);
  return sum;
}

static const struct {
  const char *name;
  u64 (*run)(void);
} programs[] = {
    {"sieve", sieve},       {"mix64", mix64},         {"mandelbrot", mandelbrot}, {"matrix", matrix},
    {"simd", simd},         {"indirect", indirect},   {"recursion", recursion},   {"copies", copies},
    {"strings", string_ops}, {"sorting", sorting},    {"hashing", hashing},       {"pointers", pointers},
    {"syscalls", syscalls}, {"pagefaults", page_faults}, {"forks", forks},        {"execs", execs},
    {"pipes", pipes},       {"selfmod", self_modifying},
};

static int wanted(int argc, char **argv, const char *name) {
  for (int i = 1; i < argc; i++)
    if (!strcmp(argv[i], name)) return 1;
  return argc < 2;
}

int main(int argc, char **argv) {
  /* what `execs` runs */
  if (argc > 1 && !strcmp(argv[1], "--exit")) return 3;
  for (u64 i = 0; i < sizeof programs / sizeof *programs; i++) {
    if (!wanted(argc, argv, programs[i].name)) continue;
    double start = now();
    u64 sum = programs[i].run();
    printf("%s %.4f %llx\n", programs[i].name, now() - start, (unsigned long long)sum);
    fflush(stdout);
  }
  return 0;
}
