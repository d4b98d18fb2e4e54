/*
 * fuzz_driver.c
 *		Feeds a libFuzzer target without libFuzzer: the corpus, and mutations of it.
 *
 *		order_fuzz SECONDS SEED FILE...
 *
 * The last input is in fuzz.last when the target crashes.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INPUT_BYTES_MAX 65536
#define FILES_MAX       1000

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static uint8_t *inputs[FILES_MAX];
static size_t   sizes[FILES_MAX];
static int      ninputs;

static void
read_file(const char *path)
{
	FILE *file = fopen(path, "rb");

	if (file == NULL || ninputs == FILES_MAX)
	{
		fprintf(stderr, "cannot read %s\n", path);
		exit(2);
	}
	inputs[ninputs] = malloc(INPUT_BYTES_MAX);
	sizes[ninputs] = fread(inputs[ninputs], 1, INPUT_BYTES_MAX, file);
	ninputs++;
	fclose(file);
}

/* Flips, overwrites, cuts, repeats or splices in a piece of another input; returns the new size. */
static size_t
mutate(uint8_t *data, size_t bytes)
{
	static const char interesting[] = "\"\\{}[],:\n\r\t%/\0\xff\xc3-+.eE0919999999999999999999";
	size_t            at = bytes > 0 ? (size_t) random() % bytes : 0;
	int               other = (int) (random() % ninputs);
	size_t            length;

	switch (bytes > 0 ? random() % 5 : 4)
	{
		case 0:
			data[at] ^= (uint8_t) (1u << (random() % 8));
			return bytes;
		case 1:
			data[at] = (uint8_t) interesting[random() % (long) sizeof(interesting)];
			return bytes;
		case 2:
			return at;
		case 3:
			length = (bytes - at) / 2;
			if (bytes + length > INPUT_BYTES_MAX)
				return bytes;
			memmove(data + at + length, data + at, bytes - at);
			return bytes + length;
		default:
			length = sizes[other] > 0 ? (size_t) random() % sizes[other] : 0;
			if (at + length > INPUT_BYTES_MAX)
				return bytes;
			memcpy(data + at, inputs[other], length);
			return at + length > bytes ? at + length : bytes;
	}
}

int
main(int argc, char **argv)
{
	static uint8_t data[INPUT_BYTES_MAX];
	time_t         until;
	long           runs = 0;

	if (argc < 4)
		return 2;
	srandom((unsigned) atoi(argv[2]));
	for (int i = 3; i < argc; i++)
		read_file(argv[i]);
	for (int i = 0; i < ninputs; i++)
		LLVMFuzzerTestOneInput(inputs[i], sizes[i]);
	until = time(NULL) + atoi(argv[1]);
	while (time(NULL) < until)
	{
		int    input = (int) (random() % ninputs);
		size_t bytes = sizes[input];

		memcpy(data, inputs[input], bytes);
		for (long n = random() % 8; n >= 0; n--)
			bytes = mutate(data, bytes);
		LLVMFuzzerTestOneInput(data, bytes);
		runs++;
	}
	printf("%ld inputs\n", runs);
	return 0;
}
