"""What a script does: numbers, lists, dictionaries, strings, regular expressions, classes, JSON."""
import json
import re
import zlib


class Body:
    def __init__(self, x, v):
        self.x = x
        self.v = v

    def step(self, others, dt):
        pull = 0.0
        for other in others:
            if other is not self:
                d = other.x - self.x
                pull += d / (abs(d) ** 3 + 0.01)
        self.v += pull * dt
        self.x += self.v * dt


def bodies():
    all_bodies = [Body(i * 1.5, (i % 3 - 1) * 0.1) for i in range(8)]
    for _ in range(1200):
        for body in all_bodies:
            body.step(all_bodies, 0.001)
    return [round(body.x, 6) for body in all_bodies]


def words():
    state, counts = 12345, {}
    text = []
    for _ in range(40000):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        word = "w%d" % (state % 997)
        counts[word] = counts.get(word, 0) + 1
        text.append(word)
    joined = " ".join(text)
    matches = len(re.findall(r"w[1-3]\d*5\b", joined))
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:50]
    return matches, json.loads(json.dumps(top))


def queens(n, row=0, columns=0, left=0, right=0):
    if row == n:
        return 1
    free, found = ~(columns | left | right) & ((1 << n) - 1), 0
    while free:
        bit = free & -free
        free ^= bit
        found += queens(n, row + 1, columns | bit, (left | bit) << 1, (right | bit) >> 1)
    return found


def integers():
    a, b = 0, 1
    for _ in range(4000):
        a, b = b, a + b
    return a % 10**9, zlib.crc32(str(a).encode())


print(bodies(), words(), queens(8), integers())
