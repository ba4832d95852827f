/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The fast path: known unicast goes past the bridge.
 *
 * Both programs run where a device of the overlay's namespace receives (TCX ingress). Whatever they do not know is
 * passed on to the bridge as if they were not there. All numbers in maps are the host's but MAC and IP addresses,
 * which stand as on the wire. Structures are those of src/dataplane/fast_path/layout.rs, byte for byte.
 */
#include <linux/bpf.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
/* How the loader learns a map's shape, from the types of an unused structure's members (BTF). */
#define UINT(name, value) int (*name)[value]
#define TYPE(name, type) type *name
#define be16(x) __builtin_bswap16(x)

/* Numbers of enum bpf_func_id. */
static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const change_type)(struct __sk_buff *skb, __u32 type) = (void *)32;
static long (*const redirect)(__u32 ifindex, __u64 flags) = (void *)23;
static long (*const redirect_peer)(__u32 ifindex, __u64 flags) = (void *)155;

/* TCX_NEXT and TCX_DROP, of Linux 6.6. */
enum { NEXT = -1, DROP = 2 };
enum { CHECKED = 1, HAS_IPV4 = 2, HAS_IPV6 = 4 };
enum { TO_TUNNEL = 0, TO_PORT = 1 };
enum { FORGED_MAC = 0, FORGED_ADDRESS = 1, REASONS };

/* A container's end in the bridge. */
struct port {
	__u32 vni;
	__u32 tunnel; /* the VXLAN device of its network; 0: none, all goes by the bridge */
	__u32 mtu;    /* largest packet that the network carries; the kernel's own check is for GPL programs only */
	__u32 flags;
	__u8 mac[6];
	__u16 pad;
	__be32 ipv4;
	__u32 ipv6[4];
};

struct station {
	__u32 vni;
	__u8 mac[6];
	__u16 pad;
};

/* Where a station is. */
struct place {
	__u32 kind;
	__u32 ifindex; /* of a port */
};

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	UINT(max_entries, 65536);
	TYPE(key, __u32);
	TYPE(value, struct port);
} ports SECTION(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	UINT(max_entries, 1 << 20);
	TYPE(key, struct station);
	TYPE(value, struct place);
} stations SECTION(".maps");

/* VNI by VXLAN device. */
struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	UINT(max_entries, 65536);
	TYPE(key, __u32);
	TYPE(value, __u32);
} tunnels SECTION(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	UINT(max_entries, REASONS);
	TYPE(key, __u32);
	TYPE(value, __u64);
} dropped SECTION(".maps");

/* RFC 826, for Ethernet and IPv4. */
struct arp_ipv4 {
	__u16 head[4];
	__u8 sender[6];
	__u8 sender_ip[4];
	__u8 target[6];
	__u8 target_ip[4];
} __attribute__((packed));

/* RFC 4861, section 4.4. */
struct advertisement {
	struct icmp6hdr icmp;
	struct in6_addr target;
};

INLINE int drop(__u32 reason)
{
	__u64 *count = map_lookup(&dropped, &reason);
	if (count)
		*count += 1;
	return DROP;
}

INLINE bool same_mac(const __u8 *a, const __u8 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) | (a[5] ^ b[5]));
}

/* The port's own address, or one of the link (fe80::/10). */
INLINE bool may_speak_as(const struct port *port, const struct in6_addr *ip)
{
	const __u32 *word = ip->in6_u.u6_addr32;
	if (ip->in6_u.u6_addr8[0] == 0xfe && (ip->in6_u.u6_addr8[1] & 0xc0) == 0x80)
		return true;
	return (port->flags & HAS_IPV6) && word[0] == port->ipv6[0] && word[1] == port->ipv6[1] &&
	       word[2] == port->ipv6[2] && word[3] == port->ipv6[3];
}

INLINE bool is_unspecified(const struct in6_addr *ip)
{
	const __u32 *word = ip->in6_u.u6_addr32;
	return !(word[0] | word[1] | word[2] | word[3]);
}

/* Past the bridge to where the station is, if that is known. Nothing that comes by the tunnel goes out by it. */
INLINE int hand_on(struct __sk_buff *skb, __u32 vni, const __u8 *mac, __u32 tunnel)
{
	struct station station = { .vni = vni };
	__builtin_memcpy(station.mac, mac, 6);
	struct place *place = map_lookup(&stations, &station);
	if (!place)
		return NEXT;
	if (place->kind == TO_TUNNEL)
		return tunnel ? redirect(tunnel, 0) : NEXT;
	/* Kernels before 6.15 leave it as a frame for somebody else, which the container would not take. */
	if (change_type(skb, PACKET_HOST))
		return NEXT;
	return redirect_peer(place->ifindex, 0);
}

SECTION("classifier")
int from_container(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	__u32 ifindex = skb->ifindex;
	struct port *port = map_lookup(&ports, &ifindex);

	if (!port || (void *)(eth + 1) > end)
		return NEXT;
	if (!same_mac(eth->h_source, port->mac))
		return drop(FORGED_MAC);
	/* The rules of the bridges look behind a tag. */
	if (skb->vlan_present)
		return NEXT;

	if (eth->h_proto == be16(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);
		if ((void *)(ip + 1) > end)
			return NEXT;
		if ((port->flags & CHECKED) && !((port->flags & HAS_IPV4) && ip->saddr == port->ipv4)) {
			/* Who has no address yet asks all for one. */
			return ip->saddr ? drop(FORGED_ADDRESS) : NEXT;
		}
	} else if (eth->h_proto == be16(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(eth + 1);
		if ((void *)(ip + 1) > end)
			return NEXT;
		if ((port->flags & CHECKED) && !may_speak_as(port, &ip->saddr) && !is_unspecified(&ip->saddr))
			return drop(FORGED_ADDRESS);
		if (ip->nexthdr == IPPROTO_ICMPV6) {
			struct advertisement *nd = (void *)(ip + 1);
			if ((void *)(nd + 1) <= end && nd->icmp.icmp6_type >= 133 && nd->icmp.icmp6_type <= 137) {
				if ((port->flags & CHECKED) && nd->icmp.icmp6_type == 136 && !may_speak_as(port, &nd->target))
					return drop(FORGED_ADDRESS);
				/* Neighbour discovery is answered by the bridge. */
				return NEXT;
			}
		}
	} else {
		struct arp_ipv4 *arp = (void *)(eth + 1);
		if (eth->h_proto != be16(ETH_P_ARP) || (void *)(arp + 1) > end || !(port->flags & CHECKED))
			return NEXT;
		if (!same_mac(arp->sender, port->mac))
			return drop(FORGED_MAC);
		__be32 sender;
		__builtin_memcpy(&sender, arp->sender_ip, 4);
		if (sender && !((port->flags & HAS_IPV4) && sender == port->ipv4))
			return drop(FORGED_ADDRESS);
		return NEXT;
	}
	/* What is for all, and what the bridge would not let pass. Segments of a larger packet are cut to size later. */
	if ((eth->h_dest[0] & 1) || (!skb->gso_size && skb->len > port->mtu + ETH_HLEN))
		return NEXT;
	return hand_on(skb, port->vni, eth->h_dest, port->tunnel);
}

SECTION("classifier")
int from_tunnel(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	__u32 ifindex = skb->ifindex;
	__u32 *vni = map_lookup(&tunnels, &ifindex);

	if (!vni || (void *)(eth + 1) > end || (eth->h_dest[0] & 1) || skb->vlan_present)
		return NEXT;
	if (eth->h_proto != be16(ETH_P_IP) && eth->h_proto != be16(ETH_P_IPV6))
		return NEXT;
	return hand_on(skb, *vni, eth->h_dest, 0);
}

char _license[] SECTION("license") = "MIT";
