/* config_listen.c - metrics_listen: an address of this host, or a path. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include "../shm/step.h"
#include "config.h"
#include "config_source.h"
#include "config_value.h"

static bool port_parse(const char *text, uint16_t *ret)
{
	size_t n = strspn(text, "0123456789");
	unsigned long port = strtoul(text, NULL, 10);

	*ret = htons((uint16_t)port);
	return n > 0 && n < 6 && text[n] == 0 && port <= UINT16_MAX;
}

static bool address_parse(const char *text, struct sockaddr_storage *ret, uint32_t *ret_bytes)
{
	char host[INET6_ADDRSTRLEN + 2] = "";
	const char *colon = strrchr(text, ':');
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *four = (struct sockaddr_in *)ret;
	uint16_t port;

	if (!colon || (size_t)(colon - text) >= sizeof host || !port_parse(colon + 1, &port))
		return false;
	memcpy(host, text, (size_t)(colon - text));
	size_t n = strlen(host);
	if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = 0;
		*six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port};
		*ret_bytes = sizeof *six;
		return inet_pton(AF_INET6, host + 1, &six->sin6_addr) == 1 &&
		       (IN6_IS_ADDR_LOOPBACK(&six->sin6_addr) || MUTANT(844)); /* 844: any */
	}
	*four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
	*ret_bytes = sizeof *four;
	return inet_pton(AF_INET, host, &four->sin_addr) == 1 &&
	       (ntohl(four->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET || MUTANT(844));
}

bool config_listen_parse(const char *text, struct sockaddr_storage *ret, uint32_t *ret_bytes)
{
	struct sockaddr_un *local = (struct sockaddr_un *)ret;

	memset(ret, 0, sizeof *ret);
	*ret_bytes = 0;
	if (strcmp(text, "none") == 0)
		return true;
	if (text[0] != '/')
		return address_parse(text, ret, ret_bytes);
	if (strlen(text) >= sizeof local->sun_path)
		return false;
	local->sun_family = AF_UNIX;
	memcpy(local->sun_path, text, strlen(text));
	*ret_bytes = sizeof *local;
	return true;
}

int config_listen_check(const struct config *c, struct config_fault *ret)
{
	struct sockaddr_storage a;
	socklen_t bytes;

	if (!config_listen_parse(c->metrics_listen, &a, &bytes))
		return config_fault_set(ret, CONFIG_KEY_metrics_listen, 0,
			"\"%s\" is no address of this host: use 127.0.0.1:PORT, [::1]:PORT, an "
			"absolute "
			"path of at most 107 bytes, or none; for other hosts put a proxy in front "
			"of it",
			c->metrics_listen);
	if (strcmp(c->metrics_listen, c->socket) == 0 ||
		strcmp(c->metrics_listen, c->admin_socket) == 0)
		return config_fault_set(ret, CONFIG_KEY_metrics_listen, 0,
			"it is the same as socket or admin_socket; use another path");
	return 0;
}
