#pragma once
#include <stdint.h>

#include "proto/limits.h"
#include "proto/session.pb-c.h"

/* What is asked, in few bytes: kernel, code, arguments, time limit, and whether the interpreter is
 * to be a new one. Not how much of the output is kept and how it is told, nor who asks. Rows have
 * it: what goes in may change with the version of the row only. BASE_ENOMEM. */
int proto_exec_digest(const Warren__Exec *q, uint8_t ret[PROTO_EXEC_DIGEST_BYTES]);
