/* SPDX-License-Identifier: BSD-2-Clause */
/* SipHash-1-3 (Aumasson and Bernstein, 2012) of words, as src/lb/sip.rs has it. */
#ifndef PEN_DSR_SIP_H
#define PEN_DSR_SIP_H

#include <linux/types.h>

struct sip {
	__u64 v0, v1, v2, v3;
};

#define ROTATE(x, by) ((x) << (by) | (x) >> (64 - (by)))

static __always_inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = ROTATE(s->v1, 13) ^ s->v0;
	s->v3 = ROTATE(s->v3, 16) ^ s->v2;
	s->v0 = ROTATE(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = ROTATE(s->v1, 17) ^ s->v2;
	s->v3 = ROTATE(s->v3, 21) ^ s->v0;
	s->v2 = ROTATE(s->v2, 32);
}

static __always_inline void sip_begin(struct sip *s, const __u64 *key)
{
	s->v0 = key[0] ^ 0x736f6d6570736575ULL;
	s->v1 = key[1] ^ 0x646f72616e646f6dULL;
	s->v2 = key[0] ^ 0x6c7967656e657261ULL;
	s->v3 = key[1] ^ 0x7465646279746573ULL;
}

static __always_inline void sip_word(struct sip *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	s->v0 ^= word;
}

/* The hash of the words so far and of the bytes that are left in `rest`; `length`: of all of them. */
static __always_inline __u64 sip_end(struct sip *s, __u64 rest, __u64 length)
{
	sip_word(s, length << 56 | rest);
	s->v2 ^= 0xff;
	sip_round(s);
	sip_round(s);
	sip_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

#endif
