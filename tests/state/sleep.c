/* The least: a process that waits. */
#include "lib.h"

int main(void)
{
	state_wait();
	state_pass();
}
