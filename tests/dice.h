/* dice.h - seeded chance for tests of situations (splitmix64, unrelated to the sampler's generator). */
#ifndef DICE_H
#define DICE_H

#include <stdbool.h>
#include <stdint.h>

static uint64_t dice;   /* the state; set it to have a situation again */

static inline uint64_t roll(void)
{
    uint64_t z = dice += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

static inline uint32_t below(uint32_t n) { return (uint32_t)(roll() % n); }
static inline uint32_t between(uint32_t low, uint32_t high) { return low + below(high - low + 1); }   /* both included */
static inline bool     one_in(uint32_t n) { return below(n) == 0; }

#endif
