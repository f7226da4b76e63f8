#include "api/validate.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/parse.h"

int name_check_instance(const char *name, struct err *e)
{
	size_t n = strlen(name);

	if (n < 1 || n > 63)
		return err_set(e, -EINVAL, "an instance's name has 1 to 63 characters");
	for (size_t i = 0; i < n; i++)
		if (!isascii(name[i]) || (!isalnum((unsigned char)name[i]) && name[i] != '-'))
			return err_set(e, -EINVAL, "an instance's name consists of letters, digits and \"-\"");
	if (!isalpha((unsigned char)name[0]))
		return err_set(e, -EINVAL, "an instance's name begins with a letter");
	if (name[n - 1] == '-')
		return err_set(e, -EINVAL, "an instance's name does not end with \"-\"");
	return 0;
}

int name_check_interface(const char *name, struct err *e)
{
	size_t n = strlen(name);

	if (n < 2 || n > 15)
		return err_set(e, -EINVAL, "a network's name has 2 to 15 characters: it names the bridge");
	for (size_t i = 0; i < n; i++)
		if (!isascii(name[i]) || (!isalnum((unsigned char)name[i]) && !strchr("-_.", name[i])))
			return err_set(e, -EINVAL, "a network's name consists of letters, digits, \"-\", \"_\" and \".\"");
	if (!isalnum((unsigned char)name[0]))
		return err_set(e, -EINVAL, "a network's name begins with a letter or a digit");
	return 0;
}

int name_check_object(const char *what, const char *name, struct err *e)
{
	size_t n = strlen(name);

	if (n < 1 || n > 63)
		return err_set(e, -EINVAL, "the name of a %s has 1 to 63 characters", what);
	for (size_t i = 0; i < n; i++)
		if (!isascii(name[i]) || (!isalnum((unsigned char)name[i]) && !strchr("-_.", name[i])))
			return err_set(e, -EINVAL, "the name of a %s consists of letters, digits, \"-\", \"_\" and \".\"", what);
	if (name[0] == '.' || name[0] == '-')
		return err_set(e, -EINVAL, "the name of a %s does not begin with \"%c\"", what, name[0]);
	return 0;
}

/* ---- values ---- */

static bool is_bool(const char *v)
{
	static const char *const words[] = { "true", "false", "1", "0", "yes", "no", "on", "off" };

	for (size_t i = 0; i < array_len(words); i++)
		if (strcasecmp(v, words[i]) == 0)
			return true;
	return false;
}

static int check_bool(const char *key, const char *v, struct err *e)
{
	return is_bool(v) ? 0 : err_set(e, -EINVAL, "%s is true or false, not \"%s\"", key, v);
}

static int check_number(const char *key, const char *v, struct err *e)
{
	uint64_t n;

	return parse_u64(v, 10, &n) == 0 ? 0 : err_set(e, -EINVAL, "%s is a number, not \"%s\"", key, v);
}

static int check_size(const char *key, const char *v, struct err *e)
{
	uint64_t n;
	size_t len = strlen(v);

	if (len > 1 && v[len - 1] == '%' && strspn(v, "0123456789") == len - 1)
		return 0;
	return parse_size(v, &n) == 0 ? 0 :
	       err_set(e, -EINVAL, "%s is a size such as 512MiB, not \"%s\"", key, v);
}

/* "4", or a list of processors "0-2,5". */
static int check_cpus(const char *key, const char *v, struct err *e)
{
	if (*v && strspn(v, "0123456789-,") == strlen(v) && isdigit((unsigned char)*v))
		return 0;
	return err_set(e, -EINVAL, "%s is a number of processors or a list such as 0-2,5, not \"%s\"", key, v);
}

static int check_any(const char *key, const char *v, struct err *e)
{
	return strlen(v) < 65536 ? 0 : err_set(e, -EINVAL, "the value of %s is too long", key);
}

static int check_line(const char *key, const char *v, struct err *e)
{
	return strpbrk(v, "\n\r") ? err_set(e, -EINVAL, "the value of %s is not one line", key) : check_any(key, v, e);
}

static int check_off(const char *key, const char *v, struct err *e)
{
	if (is_bool(v) && strchr("0fFnN", *v))
		return 0;
	if (strcasecmp(v, "off") == 0)
		return 0;
	return err_set(e, -EINVAL, "%s is not supported yet", key);
}

static int check_cidr(const char *key, const char *v, struct err *e)
{
	char address[64];
	const char *slash = strchr(v, '/');
	unsigned char raw[16];
	uint64_t bits;
	bool v6 = strchr(v, ':') != NULL;

	if (strcmp(v, "none") == 0 || (strcmp(v, "auto") == 0 && !v6))
		return 0;
	if (!slash || (size_t)(slash - v) >= sizeof(address) || parse_u64(slash + 1, 10, &bits) < 0 ||
	    bits > (v6 ? 128 : 32) || bits < 1)
		return err_set(e, -EINVAL, "%s is an address with a prefix length such as 10.0.3.1/24, or none, not \"%s\"", key, v);
	memcpy(address, v, (size_t)(slash - v));
	address[slash - v] = '\0';
	if (inet_pton(v6 ? AF_INET6 : AF_INET, address, raw) != 1)
		return err_set(e, -EINVAL, "%s: \"%s\" is not an address", key, address);
	return 0;
}

static int check_none6(const char *key, const char *v, struct err *e)
{
	if (!*v || strcmp(v, "none") == 0 || strcmp(v, "auto") == 0)
		return 0;
	return check_cidr(key, v, e);
}

struct known {
	const char *key;
	bool prefix;
	int (*check)(const char *key, const char *v, struct err *e);
};

static int config_check(const json_t *config, const struct known *known, size_t n, const char *what, struct err *e)
{
	const char *key;
	json_t *value;

	if (!config || json_is_null(config))
		return 0;
	if (!json_is_object(config))
		return err_set(e, -EINVAL, "\"config\" is not an object");
	json_object_foreach((json_t *)config, key, value) {
		const struct known *k = NULL;
		int r;

		if (!json_is_string(value))
			return err_set(e, -EINVAL, "the value of %s is not a string", key);
		for (size_t i = 0; i < n && !k; i++)
			if (known[i].prefix ? str_starts(key, known[i].key) && key[strlen(known[i].key)] :
					      strcmp(key, known[i].key) == 0)
				k = &known[i];
		if (!k)
			return err_set(e, -EINVAL, "%s has no configuration key \"%s\"", what, key);
		/* An empty value is "not set". */
		if (!*json_string_value(value))
			continue;
		r = k->check(key, json_string_value(value), e);
		if (r < 0)
			return r;
	}
	return 0;
}

int config_check_instance(const json_t *config, struct err *e)
{
	static const struct known known[] = {
		{ "boot.autostart", false, check_bool },
		{ "boot.autostart.priority", false, check_number },
		{ "boot.host_shutdown_timeout", false, check_number },
		{ "limits.cpu", false, check_cpus },
		{ "limits.memory", false, check_size },
		{ "limits.processes", false, check_number },
		{ "migration.downtime", false, check_any },
		{ "security.privileged", false, check_bool },
		{ "security.nesting", false, check_off },
		{ "raw.lxc", false, check_any },
		{ "environment.", true, check_line },
		{ "user.", true, check_any },
		{ "volatile.", true, check_line },
		{ "image.", true, check_any },
	};

	return config_check(config, known, array_len(known), "an instance", e);
}

int config_check_network(const json_t *config, struct err *e)
{
	static const struct known known[] = {
		{ "ipv4.address", false, check_cidr },
		{ "ipv4.nat", false, check_bool },
		{ "ipv4.dhcp", false, check_bool },
		{ "ipv4.dhcp.ranges", false, check_line },
		{ "ipv4.gateway", false, check_line },
		{ "ipv6.address", false, check_none6 },
		{ "ipv6.nat", false, check_bool },
		{ "bridge.external_interfaces", false, check_line },
		{ "bridge.mtu", false, check_number },
		{ "bridge.hwaddr", false, check_line },
		{ "dns.domain", false, check_line },
		{ "dns.mode", false, check_line },
		{ "user.", true, check_any },
		{ "volatile.", true, check_line },
	};

	return config_check(config, known, array_len(known), "a network", e);
}

int config_check_server(const json_t *config, struct err *e)
{
	static const struct known known[] = {
		{ "core.https_address", false, check_line },
		{ "user.", true, check_any },
	};

	return config_check(config, known, array_len(known), "the server", e);
}

/* ---- devices ---- */

static int device_check(const char *name, const json_t *dev, struct err *e)
{
	static const struct {
		const char *type;
		const char *keys[16];
	} kinds[] = {
		{ "nic", { "nictype", "network", "parent", "name", "hwaddr", "host_name", "mtu", "ipv4.address" } },
		{ "disk", { "path", "pool", "size" } },
		{ "none", { NULL } },
	};
	const char *type = json_string_value(json_object_get(dev, "type")), *key;
	json_t *value;
	size_t k = 0;

	if (!json_is_object(dev) || !type)
		return err_set(e, -EINVAL, "the device \"%s\" has no type", name);
	while (k < array_len(kinds) && strcmp(kinds[k].type, type) != 0)
		k++;
	if (k == array_len(kinds))
		return err_set(e, -EINVAL, "the device \"%s\": the type \"%s\" is not supported (nic, disk and none are)", name, type);
	json_object_foreach((json_t *)dev, key, value) {
		bool known = strcmp(key, "type") == 0;

		if (!json_is_string(value))
			return err_set(e, -EINVAL, "the device \"%s\": the value of %s is not a string", name, key);
		for (const char *const *p = kinds[k].keys; *p; p++)
			known |= strcmp(*p, key) == 0;
		if (!known)
			return err_set(e, -EINVAL, "the device \"%s\" of type %s has no key \"%s\"", name, type, key);
	}
	if (strcmp(type, "disk") == 0) {
		const char *path = json_string_value(json_object_get(dev, "path"));

		if (!path || strcmp(path, "/") != 0)
			return err_set(e, -EINVAL, "the device \"%s\": only the root disk (path \"/\") is supported yet", name);
	}
	if (strcmp(type, "nic") == 0) {
		const char *nt = json_string_value(json_object_get(dev, "nictype"));
		const char *network = json_string_value(json_object_get(dev, "network"));
		const char *parent = json_string_value(json_object_get(dev, "parent"));

		if (nt && strcmp(nt, "bridged") != 0)
			return err_set(e, -EINVAL, "the device \"%s\": the nictype \"%s\" is not supported (bridged is)", name, nt);
		if (!network && !parent)
			return err_set(e, -EINVAL, "the device \"%s\" names no network", name);
		return name_check_interface(network ? network : parent, e);
	}
	return 0;
}

int devices_check(const json_t *devices, struct err *e)
{
	const char *name;
	json_t *dev;

	if (!devices || json_is_null(devices))
		return 0;
	if (!json_is_object(devices))
		return err_set(e, -EINVAL, "\"devices\" is not an object");
	json_object_foreach((json_t *)devices, name, dev) {
		int r = name_check_object("device", name, e);

		if (r >= 0)
			r = device_check(name, dev, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int profiles_check(const json_t *profiles, struct err *e)
{
	json_t *p;
	size_t i;

	if (!profiles || json_is_null(profiles))
		return 0;
	if (!json_is_array(profiles))
		return err_set(e, -EINVAL, "\"profiles\" is not a list");
	json_array_foreach((json_t *)profiles, i, p)
		if (!json_is_string(p))
			return err_set(e, -EINVAL, "a profile's name is not a string");
	return 0;
}
