//go:build fuzzengine

#include <stddef.h>
#include <stdint.h>

#include "_cgo_export.h"

void __sanitizer_cov_8bit_counters_init(uint8_t *start, uint8_t *stop);
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*one)(const uint8_t *data, size_t size));

static int one(const uint8_t *data, size_t size) { return freightlinerFuzzOne((uint8_t *)data, size); }

int freightlinerFuzz(int argc, char **argv, uint8_t *counters, uint8_t *end) {
	__sanitizer_cov_8bit_counters_init(counters, end);
	return LLVMFuzzerRunDriver(&argc, &argv, one);
}
