#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/guest/kernel.h"

/* Reading what an interpreter and its children write. */

/* Bytes at the end of data that begin a UTF-8 character which is not complete: 0 to 3. */
size_t agent_output_cut(const uint8_t *data, size_t n);

int agent_output_open(struct agent_output *o, struct agent_kernel *k, int which, int fd);
void agent_output_close(struct agent_output *o);

/* What is in the pipe now must be read before the next message of the interpreter counts. */
void agent_output_mark(struct agent_output *o);
/* Reads what was marked; false when the host must acknowledge events first. */
bool agent_output_drain(struct agent_output *o);
/* Sends the incomplete character that was held back, if any. */
void agent_output_flush(struct agent_output *o);
/* A new execution begins: what is in the pipe is not of it. */
void agent_output_begin(struct agent_output *o);
/* The host acknowledged something: read on. */
void agent_output_resume(struct agent_output *o);
