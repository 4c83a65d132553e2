// SPDX-License-Identifier: Apache-2.0
/* divvyd: the node's daemon. */
#include "instances/daemon/daemon.h"

int main(int argc, char **argv)
{
	return daemon_main(argc, argv);
}
