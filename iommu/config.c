// SPDX-License-Identifier: Apache-2.0
/*
 * What a bridge's configuration space says of isolation: is it a PCI Express port, of which type,
 * and does it have Access Control Services (PCI Express Base 6.0, 7.5.3.2 and 7.7.11).
 *
 * Pure: bytes in, facts out. The bytes come from a device, so both capability chains are followed
 * for a bounded number of steps and never outside what was read.
 */
#include "iommu/private.h"

#define CONFIG_HEADER	    0x40  /* what a caller without privilege may read */
#define CONFIG_LEGACY	    0x100 /* conventional PCI ends here */
#define CONFIG_STATUS	    0x06
#define STATUS_CAPABILITIES 0x10
#define CONFIG_CAPABILITY   0x34
#define CAPABILITY_PCIE	    0x10
#define EXTENDED_ACS	    0x000d

static uint16_t get16(const uint8_t *config, size_t offset)
{
	return (uint16_t)(config[offset] | config[offset + 1] << 8);
}

static uint32_t get32(const uint8_t *config, size_t offset)
{
	return get16(config, offset) | (uint32_t)get16(config, offset + 2) << 16;
}

static uint8_t find_port_type(const uint8_t *config, size_t size)
{
	size_t offset;

	if (!(get16(config, CONFIG_STATUS) & STATUS_CAPABILITIES))
		return IOMMU_PORT_CONVENTIONAL;
	offset = config[CONFIG_CAPABILITY] & ~3u;
	/* A capability takes at least four bytes: no chain is longer than this. */
	for (unsigned step = 0; step < (CONFIG_LEGACY - CONFIG_HEADER) / 4; step++) {
		if (offset < CONFIG_HEADER)
			return IOMMU_PORT_CONVENTIONAL;
		if (offset + 4 > size)
			return IOMMU_PORT_UNKNOWN;
		if (config[offset] == CAPABILITY_PCIE)
			return get16(config, offset + 2) >> 4 & 0xf;
		offset = config[offset + 1] & ~3u;
	}
	return IOMMU_PORT_CONVENTIONAL;
}

static void find_acs(const uint8_t *config, size_t size, struct iommu_upstream *upstream)
{
	size_t offset = CONFIG_LEGACY;

	for (unsigned step = 0; step < (4096 - CONFIG_LEGACY) / 4; step++) {
		uint32_t header;

		if (offset < CONFIG_LEGACY || offset + 8 > size)
			return;
		header = get32(config, offset);
		if (header == 0 || header == UINT32_MAX)
			return;
		if ((header & 0xffff) == EXTENDED_ACS) {
			upstream->has_acs = true;
			upstream->acs_capability = get16(config, offset + 4);
			upstream->acs_control = get16(config, offset + 6);
			return;
		}
		offset = header >> 20 & ~3u;
	}
}

void config_parse_bridge(const uint8_t *config, size_t size, struct iommu_upstream *upstream)
{
	upstream->has_acs = false;
	upstream->acs_capability = upstream->acs_control = 0;
	upstream->port_type = IOMMU_PORT_UNKNOWN;
	upstream->config_readable = size > CONFIG_HEADER;
	if (size < CONFIG_HEADER)
		return;
	upstream->port_type = find_port_type(config, size);
	find_acs(config, size, upstream);
}
