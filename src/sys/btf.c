#include "sys/btf.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"

#define VMLINUX "/sys/kernel/btf/vmlinux"
#define VMLINUX_MAX (64u << 20)
#define DEPTH_MAX 8 /* of structs within each other */

struct btf {
	char *data;
	size_t len;
	const char *names;
	size_t names_len;
	const struct btf_type **types; /* by id; [0] is void */
	size_t n, cap;
};

AUTO_OF_DEFINE(btf)

struct btf *btf_free(struct btf *b)
{
	if (b) {
		free(b->data);
		free(b->types);
		free(b);
	}
	return NULL;
}

/* Bytes behind the type's head; -EPROTO: a kind that we do not know, so that what follows is lost. */
static int tail_len(const struct btf_type *t, size_t *ret)
{
	size_t n = BTF_INFO_VLEN(t->info);

	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		*ret = 4;
		return 0;
	case BTF_KIND_ARRAY:
		*ret = sizeof(struct btf_array);
		return 0;
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
	case BTF_KIND_DATASEC:
	case BTF_KIND_ENUM64:
		*ret = n * 12;
		return 0;
	case BTF_KIND_ENUM:
	case BTF_KIND_FUNC_PROTO:
		*ret = n * 8;
		return 0;
	case BTF_KIND_PTR:
	case BTF_KIND_FWD:
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_FUNC:
	case BTF_KIND_FLOAT:
	case BTF_KIND_TYPE_TAG:
		*ret = 0;
		return 0;
	}
	return -EPROTO;
}

static int types_index(struct btf *b, const char *at, size_t len)
{
	static const struct btf_type nothing;

	if (array_grow(b->types, b->n, b->cap) < 0)
		return -ENOMEM;
	b->types[b->n++] = &nothing;
	while (len) {
		const struct btf_type *t = (const struct btf_type *)at;
		size_t tail;

		if (len < sizeof(*t) || tail_len(t, &tail) < 0 || len - sizeof(*t) < tail)
			return -EPROTO;
		if (array_grow(b->types, b->n, b->cap) < 0)
			return -ENOMEM;
		b->types[b->n++] = t;
		at += sizeof(*t) + tail;
		len -= sizeof(*t) + tail;
	}
	return 0;
}

int btf_open(char *data, size_t len, struct btf **ret)
{
	auto_of(btf) *b = calloc(1, sizeof(*b));
	const struct btf_header *h;
	size_t room;
	int r = 0;

	if (!b) {
		free(data);
		return -ENOMEM;
	}
	b->data = data;
	b->len = len;
	if (!data)
		r = fd_read_file_at(AT_FDCWD, VMLINUX, VMLINUX_MAX, &b->data, &b->len);
	if (r < 0)
		return r;
	h = (const struct btf_header *)b->data;
	if (b->len < sizeof(*h) || h->magic != BTF_MAGIC || h->hdr_len < sizeof(*h) || h->hdr_len > b->len)
		return -EPROTO;
	room = b->len - h->hdr_len;
	if (h->hdr_len % 4 || h->type_off % 4 || h->type_off > room || h->type_len > room - h->type_off ||
	    h->str_off > room || h->str_len > room - h->str_off || !h->str_len)
		return -EPROTO;
	b->names = b->data + h->hdr_len + h->str_off;
	b->names_len = h->str_len;
	if (b->names[b->names_len - 1])
		return -EPROTO;
	r = types_index(b, b->data + h->hdr_len + h->type_off, h->type_len);
	if (r < 0)
		return r;
	*ret = ptr_take(b);
	return 0;
}

static const char *name_of(const struct btf *b, uint32_t off)
{
	return off < b->names_len ? b->names + off : "";
}

static int find(const struct btf *b, unsigned kind, const char *name, uint32_t *ret)
{
	for (size_t i = 1; i < b->n; i++) {
		if (BTF_INFO_KIND(b->types[i]->info) == kind &&
		    strcmp(name_of(b, b->types[i]->name_off), name) == 0) {
			*ret = (uint32_t)i;
			return 0;
		}
	}
	return -ENOENT;
}

int btf_func(const struct btf *b, const char *name, uint32_t *ret)
{
	return find(b, BTF_KIND_FUNC, name, ret);
}

static bool is_struct(const struct btf *b, uint32_t id)
{
	unsigned kind = id < b->n ? BTF_INFO_KIND(b->types[id]->info) : BTF_KIND_UNKN;

	return kind == BTF_KIND_STRUCT || kind == BTF_KIND_UNION;
}

/* Adds the field's offset to *bits.  The fields of a struct without a name are its owner's. */
static int walk(const struct btf *b, uint32_t id, const char *path, unsigned depth, uint32_t *bits)
{
	const struct btf_type *t = b->types[id];
	const struct btf_member *m = (const struct btf_member *)(t + 1);
	size_t len = strcspn(path, ".");

	for (size_t i = 0; i < BTF_INFO_VLEN(t->info) && depth < DEPTH_MAX; i++) {
		const char *name = name_of(b, m[i].name_off), *rest = path;
		uint32_t at = BTF_INFO_KFLAG(t->info) ? BTF_MEMBER_BIT_OFFSET(m[i].offset) : m[i].offset;

		if (*name) {
			if (strlen(name) != len || memcmp(name, path, len) != 0)
				continue;
			rest = path + len + (path[len] == '.');
		}
		at += *bits;
		if (*rest && (!is_struct(b, m[i].type) || walk(b, m[i].type, rest, depth + 1, &at) < 0))
			continue;
		*bits = at;
		return 0;
	}
	return -ENOENT;
}

int btf_field(const struct btf *b, const char *type, const char *path, uint32_t *ret)
{
	uint32_t id, bits = 0;

	if (find(b, BTF_KIND_STRUCT, type, &id) < 0 || walk(b, id, path, 0, &bits) < 0)
		return -ENOENT;
	*ret = bits / 8;
	return 0;
}
