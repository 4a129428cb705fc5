/* Writes new functions for ever, runs each some ten thousand times, and prints a line for each ten. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { SLOTS = 64, BYTES = 4096 };

static uint32_t random_state = 2463534242u;
static uint32_t next(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state;
}

/* mov eax, edi; some of add, xor, sub eax, imm32 and rol eax, imm8; ret */
static void write_function(uint8_t *at) {
  static const uint8_t opcodes[] = {0x05, 0x35, 0x2d};
  *at++ = 0x89;
  *at++ = 0xf8;
  for (int i = 0; i < 150; i++) {
    uint32_t value = next();
    *at++ = opcodes[value % 3];
    memcpy(at, &value, 4);
    at += 4;
    *at++ = 0xc1;
    *at++ = 0xc0;
    *at++ = value & 31;
  }
  *at = 0xc3;
}

int main(void) {
  uint8_t *code = mmap(0, SLOTS * BYTES, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint32_t sum = 0;
  for (long round = 0;; round++) {
    uint8_t *at = code + (round % SLOTS) * BYTES;
    write_function(at);
    for (int i = 0; i < 20000; i++) sum = ((uint32_t(*)(uint32_t))at)(sum);
    if (round % 10 == 9) {
      printf("ROUND %ld %x\n", round + 1, sum);
      fflush(stdout);
    }
  }
}
