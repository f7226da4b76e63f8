/* btf - what the running kernel says about its own types (/sys/kernel/btf/vmlinux).
 *
 * Only where fields lie and what number a function has: enough to look at a task by a BPF program
 * that is loaded as it is, without libbpf. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct btf;

/* Takes over data (malloc'd; NULL: reads the kernel's own).  -ENOENT: the kernel has none.  -EPROTO. */
int btf_open(char *data, size_t len, struct btf **ret);
struct btf *btf_free(struct btf *b);

/* Byte offset of a field, through structs, unions and those without a name: "restart_block.poll.tv_sec"
 * of "task_struct".  -ENOENT: there is none. */
int btf_field(const struct btf *b, const char *type, const char *path, uint32_t *ret);
/* The id of a kernel function; -ENOENT. */
int btf_func(const struct btf *b, const char *name, uint32_t *ret);
