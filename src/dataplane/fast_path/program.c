// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The fast path: two programs that take frames past the bridge. What they do not know they leave to the bridge,
// which does the same more slowly; only a sender that is not who it says it is, is refused.
//
// `make bpf` compiles this file into program.o beside it, which is committed. It takes no header, so that what is
// compiled does not depend on whose machine it is, and no struct of a kernel's inside, so that one object serves all
// kernels.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define BE16(number) __builtin_bswap16(number)

// Of linux/bpf.h, where fields are only ever added at the end.
struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
	u32 vlan_present;
	u32 vlan_tci;
	u32 vlan_proto;
	u32 priority;
	u32 ingress_ifindex;
	u32 ifindex;
	u32 tc_index;
	u32 cb[5];
	u32 hash;
	u32 tc_classid;
	u32 data;
	u32 data_end;
	u32 napi_id;
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
	u32 data_meta;
	u64 flow_keys __attribute__((aligned(8)));
	u64 tstamp;
	u32 wire_len;
	u32 gso_segs;
	u64 sk __attribute__((aligned(8)));
	u32 gso_size;
};

// Kinds and flags of maps, and what a program answers: NEXT leaves the frame to other programs and then to the
// bridge (linux/bpf.h).
#define MAP_HASH 1
#define MAP_PERCPU_ARRAY 6
#define NO_PREALLOC 1
#define NEXT (-1)
#define DROP 2

// For this host (linux/if_packet.h).
#define PACKET_HOST 0

// Helpers, by their numbers in linux/bpf.h; bpf-helpers(7). None of them asks for a program under the GPL.
static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const redirect)(u32 link, u64 flags) = (void *)23;
static long (*const load_bytes)(const struct __sk_buff *skb, u32 offset, void *to, u32 length) = (void *)26;
static long (*const change_type)(struct __sk_buff *skb, u32 type) = (void *)32;
static long (*const pull_data)(struct __sk_buff *skb, u32 length) = (void *)39;
static long (*const redirect_peer)(u32 link, u64 flags) = (void *)155;

// Maps, keys and values. layout.rs has the same.

// A port: the bridge's end of a container's link, by its index.
struct port {
	u32 vni;
	// The VXLAN device of its network; 0: what is for elsewhere goes by the bridge. It stands here and not with each
	// station, so that a device that is made anew changes few entries.
	u32 tunnel;
	// Largest packet that the network carries. The kernel's own check (bpf_check_mtu) is for programs under the GPL.
	u32 mtu;
	u16 flags;
	u8 mac[6];
	u8 ip4[4];
	u8 ip6[16];
};

#define HAS_IP4 1
#define HAS_IP6 2
#define CHECKED 4

// Where frames for a MAC of a network go.
struct station {
	u32 vni;
	u8 mac[6];
	u16 zero;
};

struct target {
	u32 kind;
	// Of a port.
	u32 link;
};

#define TUNNEL 1
#define PORT 2

enum counter {
	FORGED_MAC,
	FORGED_IP4,
	FORGED_IP6,
	FORGED_ARP,
	FORGED_ND,
	TAGGED,
	COUNTERS,
};

_Static_assert(sizeof(struct port) == 40, "port");
_Static_assert(sizeof(struct station) == 12, "station");
_Static_assert(sizeof(struct target) == 8, "target");

struct {
	int (*type)[MAP_HASH];
	int (*max_entries)[65536];
	int (*map_flags)[NO_PREALLOC];
	u32 *key;
	struct port *value;
} ports SEC(".maps");

// The network of a VXLAN device, by its index.
struct {
	int (*type)[MAP_HASH];
	int (*max_entries)[65536];
	int (*map_flags)[NO_PREALLOC];
	u32 *key;
	u32 *value;
} tunnels SEC(".maps");

struct {
	int (*type)[MAP_HASH];
	int (*max_entries)[1048576];
	int (*map_flags)[NO_PREALLOC];
	struct station *key;
	struct target *value;
} stations SEC(".maps");

struct {
	int (*type)[MAP_PERCPU_ARRAY];
	int (*max_entries)[COUNTERS];
	u32 *key;
	u64 *value;
} counters SEC(".maps");

#define ETHERNET 14
#define TYPE_IP4 0x0800
#define TYPE_ARP 0x0806
#define TYPE_IP6 0x86dd

// Ethernet (IEEE 802.3), ARP for it (RFC 826), IPv4 (RFC 791) and IPv6 (RFC 8200), as far as they are looked at.
struct ethernet {
	u8 to[6];
	u8 from[6];
	u16 type;
};

struct arp {
	u16 hardware;
	u16 protocol;
	u8 hardware_length;
	u8 protocol_length;
	u16 operation;
	u8 sender_mac[6];
	u8 sender_ip[4];
} __attribute__((packed));

struct ip4 {
	u8 before[12];
	u8 from[4];
	u8 to[4];
};

struct ip6 {
	u8 before[6];
	u8 next;
	u8 hops;
	u8 from[16];
	u8 to[16];
};

// What ND has in front of an advertisement's target (RFC 4861, section 4.4), and the target.
struct advertisement {
	u8 type;
	u8 before[7];
	u8 target[16];
};

#define EXTENSIONS 4
#define HOP_BY_HOP 0
#define ROUTING 43
#define DESTINATION 60
#define ICMP6 58
#define FIRST_ND 133
#define ADVERTISEMENT 136
#define LAST_ND 137

INLINE int forged(u32 what)
{
	u64 *counter = map_lookup(&counters, &what);
	if (counter)
		*counter += 1;
	return DROP;
}

INLINE u16 u16_at(const void *bytes)
{
	return *(const u16 *)bytes;
}

INLINE u32 u32_at(const void *bytes)
{
	return *(const u32 *)bytes;
}

INLINE int same_mac(const u8 *a, const u8 *b)
{
	return ((u16_at(a) ^ u16_at(b)) | (u16_at(a + 2) ^ u16_at(b + 2)) | (u16_at(a + 4) ^ u16_at(b + 4))) == 0;
}

INLINE int same_ip6(const u8 *a, const u8 *b)
{
	return ((u32_at(a) ^ u32_at(b)) | (u32_at(a + 4) ^ u32_at(b + 4)) | (u32_at(a + 8) ^ u32_at(b + 8)) |
		(u32_at(a + 12) ^ u32_at(b + 12))) == 0;
}

INLINE int is_zero_ip6(const u8 *ip)
{
	return (u32_at(ip) | u32_at(ip + 4) | u32_at(ip + 8) | u32_at(ip + 12)) == 0;
}

// fe80::/10 (RFC 4291, section 2.5.6).
INLINE int is_link_local(const u8 *ip)
{
	return ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80;
}

// Makes the first bytes of a frame readable where they are. A sender chooses how its frame lies in memory.
INLINE int readable(struct __sk_buff *skb, u32 length)
{
	if ((void *)(long)skb->data + length <= (void *)(long)skb->data_end)
		return 1;
	if (skb->len < length || pull_data(skb, length))
		return 0;
	return (void *)(long)skb->data + length <= (void *)(long)skb->data_end;
}

// Whether `ip` is one that the port may claim.
INLINE int owns(const struct port *port, const u8 *ip)
{
	return ((port->flags & HAS_IP6) && same_ip6(ip, port->ip6)) || is_link_local(ip);
}

// ND, however many extension headers are in front of it (RFC 8200, section 4): 1 if it is any, DROP if it claims
// an address that the port has not, 0 for all else. Fragments of it nobody takes (RFC 6980).
INLINE int discovery(struct __sk_buff *skb, const struct port *port, u8 next)
{
	u32 offset = ETHERNET + sizeof(struct ip6);
	struct advertisement message;
	u8 extension[2];

#pragma unroll
	for (int i = 0; i < EXTENSIONS; i++) {
		if (next != HOP_BY_HOP && next != ROUTING && next != DESTINATION)
			break;
		if (load_bytes(skb, offset, extension, sizeof(extension)))
			return 0;
		next = extension[0];
		offset += 8 + 8 * extension[1];
	}
	// A chain that is not worth following, and that no kernel sends.
	if (next == HOP_BY_HOP || next == ROUTING || next == DESTINATION)
		return DROP;
	if (next != ICMP6 || load_bytes(skb, offset, &message, 1))
		return 0;
	if (message.type < FIRST_ND || message.type > LAST_ND)
		return 0;
	if (message.type == ADVERTISEMENT && (port->flags & CHECKED) &&
	    !load_bytes(skb, offset, &message, sizeof(message)) && !owns(port, message.target))
		return DROP;
	return 1;
}

// Sends a frame on where its station is, or leaves it to the bridge. What comes by the tunnel (`tunnel` is 0) never
// goes out by it.
INLINE int forward(struct __sk_buff *skb, u32 vni, const u8 *to, u32 tunnel)
{
	struct station station = { .vni = vni };
	struct target *target;

	__builtin_memcpy(station.mac, to, sizeof(station.mac));
	target = map_lookup(&stations, &station);
	// A bridge sends nothing back to where it came from either.
	if (!target || target->link == skb->ifindex)
		return NEXT;
	if (target->kind == PORT) {
		// The bridge's end is not whom the frame is for. From Linux 6.15 on redirect_peer sets this itself.
		if (change_type(skb, PACKET_HOST))
			return NEXT;
		return redirect_peer(target->link, 0);
	}
	return tunnel ? redirect(tunnel, 0) : NEXT;
}

// At the ingress of the bridge's end of a container's link: what the container sends.
SEC("classifier") int from_container(struct __sk_buff *skb)
{
	u32 link = skb->ifindex;
	const struct port *port = map_lookup(&ports, &link);
	const struct ethernet *ethernet;
	u8 to[6];
	u16 type;

	if (!port)
		return NEXT;
	if (!readable(skb, ETHERNET))
		return NEXT;
	ethernet = (void *)(long)skb->data;
	if ((void *)(ethernet + 1) > (void *)(long)skb->data_end)
		return NEXT;
	if (!same_mac(ethernet->from, port->mac))
		return forged(FORGED_MAC);
	type = ethernet->type;
	__builtin_memcpy(to, ethernet->to, sizeof(to));

	if (skb->vlan_present) {
		// A tag without a VLAN is taken off by whoever gets the frame, which is then like any other.
		if ((port->flags & CHECKED) && (skb->vlan_tci & 0xfff) == 0)
			return forged(TAGGED);
		return NEXT;
	}

	if (type == BE16(TYPE_IP4)) {
		const struct ip4 *ip;
		u32 from;

		if (!readable(skb, ETHERNET + sizeof(*ip)))
			return NEXT;
		ip = (void *)(long)skb->data + ETHERNET;
		if ((void *)(ip + 1) > (void *)(long)skb->data_end)
			return NEXT;
		from = u32_at(ip->from);
		// Nobody who asks for an address has one yet (RFC 2131, section 4.1); he asks all.
		if ((port->flags & CHECKED) && !((port->flags & HAS_IP4) && from == u32_at(port->ip4)) &&
		    !(from == 0 && (to[0] & 1)))
			return forged(FORGED_IP4);
	} else if (type == BE16(TYPE_IP6)) {
		const struct ip6 *ip;
		int nd;

		if (!readable(skb, ETHERNET + sizeof(*ip)))
			return NEXT;
		ip = (void *)(long)skb->data + ETHERNET;
		if ((void *)(ip + 1) > (void *)(long)skb->data_end)
			return NEXT;
		if ((port->flags & CHECKED) && !owns(port, ip->from) && !is_zero_ip6(ip->from))
			return forged(FORGED_IP6);
		nd = discovery(skb, port, ip->next);
		if (nd == DROP)
			return forged(FORGED_ND);
		if (nd)
			return NEXT;
	} else {
		if (type == BE16(TYPE_ARP) && (port->flags & CHECKED)) {
			const struct arp *arp;

			if (!readable(skb, ETHERNET + sizeof(*arp)))
				return NEXT;
			arp = (void *)(long)skb->data + ETHERNET;
			if ((void *)(arp + 1) > (void *)(long)skb->data_end)
				return NEXT;
			// One about other kinds of addresses no kernel takes.
			if (arp->hardware_length != 6 || arp->protocol_length != 4)
				return NEXT;
			if (!same_mac(arp->sender_mac, port->mac))
				return forged(FORGED_ARP);
			if (u32_at(arp->sender_ip) != 0 &&
			    !((port->flags & HAS_IP4) && u32_at(arp->sender_ip) == u32_at(port->ip4)))
				return forged(FORGED_ARP);
		}
		return NEXT;
	}

	// For many; or too large, which the bridge drops. A packet of several segments is cut to size later.
	if ((to[0] & 1) || (!skb->gso_size && skb->len > port->mtu + ETHERNET))
		return NEXT;
	return forward(skb, port->vni, to, port->tunnel);
}

// At the ingress of a VXLAN device: what comes from other hosts.
SEC("classifier") int from_tunnel(struct __sk_buff *skb)
{
	u32 link = skb->ifindex;
	const u32 *vni = map_lookup(&tunnels, &link);
	const struct ethernet *ethernet;
	u8 to[6];

	if (!vni || skb->vlan_present || !readable(skb, ETHERNET))
		return NEXT;
	ethernet = (void *)(long)skb->data;
	if ((void *)(ethernet + 1) > (void *)(long)skb->data_end)
		return NEXT;
	// The bridge answers ARP and may have to ask.
	if ((ethernet->to[0] & 1) || (ethernet->type != BE16(TYPE_IP4) && ethernet->type != BE16(TYPE_IP6)))
		return NEXT;
	__builtin_memcpy(to, ethernet->to, sizeof(to));
	return forward(skb, *vni, to, 0);
}

char LICENSE[] SEC("license") = "MIT";
