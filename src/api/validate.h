/* validate - what names, configuration keys and devices may be; every refusal is a sentence. */
#pragma once
#include <jansson.h>

#include "base/err.h"

int name_check_instance(const char *name, struct err *e);   /* LXD's: a host name label */
int name_check_interface(const char *name, struct err *e);  /* networks: a link's name */
int name_check_object(const char *what, const char *name, struct err *e); /* profiles, pools */
/* An object of strings with known keys. NULL is an empty one. */
int config_check_instance(const json_t *config, struct err *e);
int config_check_network(const json_t *config, struct err *e);
int config_check_server(const json_t *config, struct err *e);
int devices_check(const json_t *devices, struct err *e);
/* Array of strings. */
int profiles_check(const json_t *profiles, struct err *e);
