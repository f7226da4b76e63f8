#include "engine/action.h"

int action_dedup(const struct options *o, struct err *e)
{
	return err_set(e, -ENOSYS, "not there yet");
}
