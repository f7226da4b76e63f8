#include "cli/image_ref.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/cli.h"

int image_ref_split(const struct conf *c, const char *ref, char **ret_remote, char **ret_image, struct err *e)
{
	const char *colon = strchr(ref, ':');
	auto_free char *remote = colon ? strndup(ref, (size_t)(colon - ref)) : strdup(conf_default(c));
	auto_free char *image = strdup(colon ? colon + 1 : ref);

	if (!remote || !image)
		return err_sys(e, -ENOMEM, "cannot read '%s'", ref);
	if (!conf_remote_addr(c, remote))
		return err_set(e, -ENOENT, "there is no remote '%s'; `godwit remote list` shows them", remote);
	if (!*image)
		return err_set(e, -EINVAL, "'%s' names no image", ref);
	*ret_remote = ptr_take(remote);
	*ret_image = ptr_take(image);
	return 0;
}

char *image_escape(const char *image)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~";
	struct buf b = BUF_INIT;

	for (; *image; image++) {
		int r = strchr(plain, *image) ? buf_add(&b, image, 1) : buf_addf(&b, "%%%02X", (unsigned char)*image);

		if (r < 0) {
			buf_done(&b);
			return NULL;
		}
	}
	return buf_take(&b);
}

int image_find(struct remote *r, const char *image, char **ret_fingerprint, struct err *e)
{
	auto_free char *escaped = image_escape(image);
	auto_json *found = NULL;
	const char *fp;
	int n;

	if (!escaped)
		return err_sys(e, -ENOMEM, "cannot look for the image");
	n = remote_call(r, "GET", NULL, &found, e, "/1.0/images/aliases/%s", escaped);
	if (n >= 0) {
		fp = json_str(found, "target");
	} else if (n != -ENOENT) {
		return n;
	} else {
		n = remote_call(r, "GET", NULL, &found, e, "/1.0/images/%s", escaped);
		if (n == -ENOENT)
			return err_set(e, n, "%s has no image '%s'; `godwit image list` shows those there are, `godwit image "
				       "build` makes one", remote_name(r), image);
		if (n < 0)
			return n;
		fp = json_str(found, "fingerprint");
	}
	*ret_fingerprint = strdup(fp);
	return *ret_fingerprint ? 0 : err_sys(e, -ENOMEM, "cannot look for the image");
}
