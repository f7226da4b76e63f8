/* kinds - the file kinds, one line each: here and in kinds.c. */
#pragma once
#include "cr/cr.h"

extern const struct file_kind file_kind_reg;
extern const struct file_kind file_kind_unsupported;
