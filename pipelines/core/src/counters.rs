//! Counters, and the reasons for which packets are dropped.
//!
//! One list makes the enum, the counter, the name that users see and its documentation
//! (`appliance/docs/counters.md` is generated from it). Counters are API: a name that was published is
//! not used for anything else.

use crossbeam::utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! listed {
    (
        $(#[$meta:meta])*
        $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// All of them, in the order of the list.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that users see.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What it means.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+),)+ }
            }
        }
    };
}

listed! {
    /// Why a packet was dropped. Every dropped packet has exactly one reason.
    DropReason {
        /// The frame is shorter than its Ethernet header or tag says.
        EthTruncated = "eth-truncated",
        /// The frame is longer than the port's MTU allows, or came in several segments.
        EthOversized = "eth-oversized",
        /// The EtherType is none that Causeway handles.
        EthUnknownType = "eth-unknown-type",
        /// The link-layer source is a group address or all zeros.
        EthBadSource = "eth-bad-source",
        /// Unicast IP in a frame to a link-layer group (RFC 1122 3.3.6).
        EthGroupUnicast = "eth-group-unicast",
        /// The VLAN is not configured on the port.
        EthUnknownVlan = "eth-unknown-vlan",
        /// Unicast to a MAC address that is not ours (the port is promiscuous where it has no filter).
        NotOurMac = "not-our-mac",
        /// IPv6: fewer octets than the header or its payload length says.
        Ip6Truncated = "ip6-truncated",
        /// IPv6: the version is not 6.
        Ip6BadVersion = "ip6-bad-version",
        /// IPv6: extension headers contradict RFC 8200, or there are more than are followed.
        Ip6BadExtension = "ip6-bad-extension",
        /// IPv6: a source or destination that must not be on the wire (RFC 4291 2.5.2, 2.5.3, 2.7).
        Ip6BadAddress = "ip6-bad-address",
        /// IPv4: fewer octets than the header says.
        Ip4Truncated = "ip4-truncated",
        /// IPv4: the version is not 4.
        Ip4BadVersion = "ip4-bad-version",
        /// IPv4: header length and total length contradict each other (RFC 1812 5.2.2).
        Ip4BadLength = "ip4-bad-length",
        /// IPv4: the header checksum is wrong (RFC 1812 5.2.2).
        Ip4BadChecksum = "ip4-bad-checksum",
        /// IPv4: a source or destination that must not be forwarded (RFC 1812 5.3.7).
        Ip4BadAddress = "ip4-bad-address",
        /// IPv4 to an address that is neither ours nor in a pool.
        Ip4NotOurs = "ip4-not-ours",
        /// The source address is not one that the network may send from (BCP 38).
        SpoofedSource = "spoofed-source",
        /// The source address is bound to nobody, on a network that wants leased sources (RFC 7039).
        SourceNotBound = "source-not-bound",
        /// The source address is bound to another link-layer address (RFC 7039).
        SourceOtherMac = "source-other-mac",
        /// The source is an address of the gateway itself.
        OwnSource = "own-source",
        /// Multicast that the gateway has no use for.
        MulticastNotOurs = "multicast-not-ours",
        /// To the gateway itself, for a protocol or port that it does not serve.
        LocalNoService = "local-no-service",
        /// To the gateway itself, as a fragment (the gateway does not reassemble).
        LocalFragment = "local-fragment",
        /// ICMP or ICMPv6 to the gateway itself with a wrong checksum.
        LocalBadChecksum = "local-bad-checksum",
        /// ICMP or ICMPv6 to the gateway itself that is cut or contradicts itself.
        LocalMalformed = "local-malformed",
        /// More echo requests to the gateway itself than it answers.
        LocalRateLimited = "local-rate-limited",
        /// ARP that is cut or is not for Ethernet and IPv4 (RFC 826).
        ArpMalformed = "arp-malformed",
        /// ARP for an address that is not ours, or an answer that nobody asked for.
        ArpNotOurs = "arp-not-ours",
        /// ND with a hop limit other than 255, that is, from off the link (RFC 4861 7.1).
        NdHopLimit = "nd-hop-limit",
        /// ND that fails the checks of RFC 4861 6.1 and 7.1.
        NdMalformed = "nd-malformed",
        /// ND for an address that is not ours, or an answer that nobody asked for.
        NdNotOurs = "nd-not-ours",
        /// ND that claims an address which is bound to another station, or, on a network that wants leased sources,
        /// to nobody (RFC 7513).
        NdNotBound = "nd-not-bound",
        /// ND that the gateway does not act on (RFC 4861: Router Advertisements and Redirects of others).
        NdIgnored = "nd-ignored",
        /// A Router Advertisement of somebody else on a tenant network (RFC 6104): never believed.
        RogueRa = "rogue-ra",
        /// For an address or a service of a virtual router whose active router is another gateway (RFC 9568 6.4.2).
        VrrpNotActive = "vrrp-not-active",
        /// VRRP with a hop limit or TTL other than 255, that is, from off the link (RFC 9568 7.1).
        VrrpHopLimit = "vrrp-hop-limit",
        /// VRRP behind IPv4 options, or behind IPv6 extension headers such as authentication (RFC 9568 5.1).
        VrrpExtension = "vrrp-extension",
        /// VRRP to an address that is not its group (RFC 9568 5.1.1.2, 5.1.2.2).
        VrrpDestination = "vrrp-destination",
        /// VRRP over IPv6 from an address that is not link-local (RFC 9568 5.1.2.1).
        VrrpSource = "vrrp-source",
        /// VRRP of version 2 (RFC 3768), which Causeway does not speak.
        VrrpVersion2 = "vrrp-version2",
        /// VRRP of a version that is neither 3 nor 2.
        VrrpVersion = "vrrp-version",
        /// VRRP of a type other than 1 (RFC 9568 5.2.2).
        VrrpType = "vrrp-type",
        /// VRRP that is shorter or longer than its count of addresses says (RFC 9568 7.1).
        VrrpLength = "vrrp-length",
        /// VRRP with a wrong checksum (RFC 9568 5.2.8).
        VrrpChecksum = "vrrp-checksum",
        /// VRRP of a virtual router that is not configured on the network (RFC 9568 7.1).
        VrrpUnknownVrid = "vrrp-unknown-vrid",
        /// VRRP of a virtual router of ours, without an address (RFC 9568 5.2.5).
        VrrpNoAddress = "vrrp-no-address",
        /// VRRP of a virtual router of ours, with an interval of zero (RFC 9568 7.1).
        VrrpZeroInterval = "vrrp-zero-interval",
        /// VRRP of a virtual router of ours whose first IPv6 address is not link-local (RFC 9568 5.2.9).
        VrrpFirstAddress = "vrrp-first-address",
        /// VRRP with a VRID of ours, and addresses that are another virtual router's (RFC 9568 7.1).
        VrrpAddresses = "vrrp-addresses",
        /// For an address of a virtual router that does not accept packets (RFC 9568 6.1, `Accept_Mode`).
        VrrpNoAccept = "vrrp-no-accept",
        /// VRRP: more advertisements wait for the worker that runs the election than may.
        VrrpRingFull = "vrrp-ring-full",
        /// DHCPv6: no link of the server's where the message came from (RFC 9915 13).
        Dhcp6NoLink = "dhcp6-no-link",
        /// DHCPv6: an answer to a message of a network that a new plan no longer has.
        Dhcp6NetworkGone = "dhcp6-network-gone",
        /// DHCPv6: a message of a relay on a network whose relays are not believed.
        Dhcp6RelayUntrusted = "dhcp6-relay-untrusted",
        /// DHCPv6: a relay that names a link which is not behind the network that it spoke on: the address is not
        /// among that network's sources.
        Dhcp6RelayElsewhere = "dhcp6-relay-elsewhere",
        /// DHCPv6: a UDP header that contradicts the packet, or a source port of zero.
        Dhcp6BadUdp = "dhcp6-bad-udp",
        /// DHCPv6: a wrong UDP checksum, or none (RFC 8200 8.1).
        Dhcp6BadChecksum = "dhcp6-bad-checksum",
        /// DHCPv6: a client's message from another than its link-local address (RFC 9915 17).
        Dhcp6BadSource = "dhcp6-bad-source",
        /// DHCPv6: a client's message to another address than ff02::1:2 (RFC 9915 16).
        Dhcp6BadDestination = "dhcp6-bad-destination",
        /// DHCPv6: more messages of one client than it may send.
        Dhcp6ClientLimited = "dhcp6-client-limited",
        /// DHCPv6: more messages than a worker takes.
        Dhcp6RateLimited = "dhcp6-rate-limited",
        /// DHCPv6: the ring to control was full.
        Dhcp6RingFull = "dhcp6-ring-full",
        /// DHCPv6: a message that is longer than those that are read.
        Dhcp6TooLong = "dhcp6-too-long",
        /// DHCPv6: the message, or an option, is cut.
        Dhcp6Truncated = "dhcp6-truncated",
        /// DHCPv6: a message type that is not for servers, or not known (RFC 9915 16).
        Dhcp6MessageType = "dhcp6-message-type",
        /// DHCPv6: an option of a length that it cannot have.
        Dhcp6OptionLength = "dhcp6-option-length",
        /// DHCPv6: an option twice that may be there once (RFC 9915 21).
        Dhcp6OptionTwice = "dhcp6-option-twice",
        /// DHCPv6: an identity association twice (RFC 9915 21.4, 21.21).
        Dhcp6IaTwice = "dhcp6-ia-twice",
        /// DHCPv6: more identity associations than are read.
        Dhcp6TooManyIas = "dhcp6-too-many-ias",
        /// DHCPv6: no Client Identifier where there must be one (RFC 9915 16).
        Dhcp6NoClientId = "dhcp6-no-client-id",
        /// DHCPv6: a DUID of a length that none has (RFC 9915 11.1).
        Dhcp6BadDuid = "dhcp6-bad-duid",
        /// DHCPv6: no Server Identifier where there must be one (RFC 9915 16).
        Dhcp6NoServerId = "dhcp6-no-server-id",
        /// DHCPv6: a Server Identifier where none may be (RFC 9915 16).
        Dhcp6ServerId = "dhcp6-server-id",
        /// DHCPv6: for another server, by its Server Identifier (RFC 9915 16).
        Dhcp6OtherServer = "dhcp6-other-server",
        /// DHCPv6: an identity association in an Information-request (RFC 9915 16.12).
        Dhcp6IaNotAllowed = "dhcp6-ia-not-allowed",
        /// DHCPv6: a prefix of more than 128 bits (RFC 9915 21.22).
        Dhcp6PrefixLength = "dhcp6-prefix-length",
        /// DHCPv6: over more relays than allowed (RFC 9915 19.1.2).
        Dhcp6RelayHops = "dhcp6-relay-hops",
        /// DHCPv6: a Relay-forward that carries no message (RFC 9915 9.1).
        Dhcp6NothingRelayed = "dhcp6-nothing-relayed",
        /// DHCPv6: a Confirm that shows no address, which is not answered (RFC 9915 18.3.3).
        Dhcp6NothingToConfirm = "dhcp6-nothing-to-confirm",
        /// DHCPv6: the answer is longer than the link carries.
        Dhcp6AnswerTooLong = "dhcp6-answer-too-long",
        /// DNS over TCP: a segment that is cut, contradicts itself, has addresses or flags that none may have, or is
        /// behind the end that its sender has declared.
        /// DNS: the lengths of the datagram contradict each other.
        Dns64BadUdp = "dns64-bad-udp",
        /// DNS: the checksum is wrong, or missing over IPv6.
        Dns64BadChecksum = "dns64-bad-checksum",
        /// DNS: the sender is no configured client.
        Dns64NotClient = "dns64-not-client",
        /// DNS: the client asked more often than it may.
        Dns64ClientLimited = "dns64-client-limited",
        /// DNS: as many questions of the client are under way as may be.
        Dns64ClientBusy = "dns64-client-busy",
        /// DNS: a message to the server that is too short to be answered, or is a response.
        Dns64Unanswerable = "dns64-unanswerable",
        /// DNS: a question that is longer than any that is looked at.
        Dns64TooLong = "dns64-too-long",
        /// DNS over TCP: a segment that is cut, contradicts itself or has addresses or flags that none may have.
        DnsTcpMalformed = "dns-tcp-malformed",
        /// DNS over TCP: a segment with a wrong checksum.
        DnsTcpBadChecksum = "dns-tcp-bad-checksum",
        /// DNS over TCP: a connection by somebody who is not served; answered with a reset.
        DnsTcpRefused = "dns-tcp-refused",
        /// DNS over TCP: more connections opened by one client than it may in that time.
        DnsTcpClientLimited = "dns-tcp-client-limited",
        /// DNS over TCP: the client has as many connections as it may have, all in use; answered with a reset.
        DnsTcpClientFull = "dns-tcp-client-full",
        /// DNS over TCP: there are as many connections as there may be, all in use; answered with a reset.
        DnsTcpFull = "dns-tcp-full",
        /// DNS over TCP: a segment of no connection (RFC 9293 3.10.7.1); answered with a reset, unless it is one.
        DnsTcpNoConnection = "dns-tcp-no-connection",
        /// DNS over TCP: a SYN or a reset inside a connection that need not come from its other end (RFC 5961 3, 4).
        DnsTcpChallenged = "dns-tcp-challenged",
        /// DNS: a datagram to a port that no question of ours is open at; answers that come too late are among them.
        Dns64UpstreamPort = "dns64-upstream-port",
        /// DNS: an answer from another address or port than the one that was asked (RFC 5452 9.1).
        Dns64UpstreamSource = "dns64-upstream-source",
        /// DNS: an answer with another ID than the question's (RFC 5452 9.1).
        Dns64UpstreamId = "dns64-upstream-id",
        /// DNS: an answer to another question (RFC 5452 9.1).
        Dns64UpstreamQuestion = "dns64-upstream-question",
        /// DNS: an answer that does not keep the case of the question's name.
        Dns64UpstreamCase = "dns64-upstream-case",
        /// DNS: to a port of a question of ours, something that is no answer (flag QR, opcode), or too short for one.
        Dns64UpstreamNotAnswer = "dns64-upstream-not-answer",
        /// DNS: an answer longer than we said that we take (RFC 6891 6.2.3).
        Dns64UpstreamOversize = "dns64-upstream-oversize",
        /// DNS: an answer of an upstream that cannot be read.
        Dns64UpstreamMalformed = "dns64-upstream-malformed",
        /// DNS: an answer of an upstream that contradicts itself: loops, chains that are too long, referrals.
        Dns64UpstreamUnusable = "dns64-upstream-unusable",
        /// The next hop did not answer.
        NextHopUnreachable = "next-hop-unreachable",
        /// The next hop is being resolved, and its queue is full.
        NextHopQueueFull = "next-hop-queue-full",
        /// No room or no rate left to resolve another next hop (RFC 6583).
        NextHopTableFull = "next-hop-table-full",
        /// The next hop is bound to nobody, on a network that wants leased sources: it is not looked for.
        NextHopNotBound = "next-hop-not-bound",
        /// No route to the destination.
        NoRoute = "no-route",
        /// The hop limit or TTL ran out.
        HopLimit = "hop-limit",
        /// Larger than the MTU of the egress interface.
        TooBig = "too-big",
        /// Link-local source or destination that would have left its link (RFC 4291 2.5.6).
        LinkLocalScope = "link-local-scope",
        /// New traffic from outside to a network whose inbound side is closed.
        InboundClosed = "inbound-closed",
        /// The flow table has no room for a flow that a host of a closed network begins.
        ForwardTableFull = "forward-table-full",
        /// Traffic between tenant networks, which is not allowed.
        TenantIsolation = "tenant-isolation",
        /// From an uplink back to an uplink: the gateway is nobody's transit, and no tenant has the address.
        NoTransit = "no-transit",
        /// A packet was classified again twice.
        AgainTwice = "again-twice",
        /// NAT64: no mapping for the outside address and port (RFC 6146 3.5).
        Nat64NoBib = "nat64-no-bib",
        /// NAT64: the mapping's filter does not let this remote address in (RFC 6146 3.5).
        Nat64Filtered = "nat64-filtered",
        /// NAT64: a SYN from outside that waited for one from inside in vain (RFC 6146 3.5.2.2).
        Nat64SynTimeout = "nat64-syn-timeout",
        /// NAT64: a SYN from outside that waited until the connection was opened from inside (RFC 5382 REQ-4).
        Nat64SynMet = "nat64-syn-met",
        /// NAT64: a SYN from outside whose first copy waits already.
        Nat64SynAgain = "nat64-syn-again",
        /// NAT64: a SYN from outside for which there was no room to wait.
        Nat64SynFull = "nat64-syn-full",
        /// NAT64: no free port in the pool.
        Nat64PoolFull = "nat64-pool-full",
        /// NAT64: the subscriber has all the ports that it may have (RFC 6888 3, REQ-4).
        Nat64SubscriberPorts = "nat64-subscriber-ports",
        /// NAT64: the subscriber has all the sessions that it may have (RFC 6888 3, REQ-5).
        Nat64SubscriberSessions = "nat64-subscriber-sessions",
        /// NAT64: the subscriber opens sessions faster than it may (RFC 6888 3, REQ-4).
        Nat64SubscriberRate = "nat64-subscriber-rate",
        /// NAT64: no room for another subscriber.
        Nat64SubscribersFull = "nat64-subscribers-full",
        /// NAT64: the flow table is full.
        Nat64TableFull = "nat64-table-full",
        /// NAT64: another worker is building the same flow; the sender's retry will find it.
        Nat64Building = "nat64-building",
        /// NAT64: under another prefix the same host already has this flow, which would look the same outside.
        Nat64Conflict = "nat64-conflict",
        /// NAT64: the protocol is not translated.
        Nat64Protocol = "nat64-protocol",
        /// NAT64: a fragment that cannot be translated.
        Nat64Fragment = "nat64-fragment",
        /// NAT64: a fragment that overlaps another of its packet (RFC 5722 4).
        Nat64FragmentOverlap = "nat64-fragment-overlap",
        /// NAT64: a fragment whose first did not come in time (RFC 6146 3.4).
        Nat64FragmentTimeout = "nat64-fragment-timeout",
        /// NAT64: no room for a fragment that has to wait for the first of its packet.
        Nat64FragmentFull = "nat64-fragment-full",
        /// NAT64: the transport header is cut or contradicts itself.
        Nat64BadTransport = "nat64-bad-transport",
        /// NAT64: the checksum of an ICMP error is wrong, or that of the IPv4 header inside it.
        Nat64BadChecksum = "nat64-bad-checksum",
        /// NAT64: a UDP checksum of zero over IPv6 (RFC 8200 8.1).
        Nat64ZeroChecksum = "nat64-zero-checksum",
        /// NAT64: an IPv4 destination under the prefix that must not be reached through it.
        Nat64BadDestination = "nat64-bad-destination",
        /// NAT64: a source that nobody has, or that the prefix must not stand for (RFC 6052 3.1).
        Nat64BadSource = "nat64-bad-source",
        /// NAT64: a TCP segment that no session has and that is no SYN (RFC 6146 3.5.2).
        Nat64NoSession = "nat64-no-session",
        /// NAT64: ICMP that is not translated (RFC 7915 4.2, 5.2).
        Nat64IcmpType = "nat64-icmp-type",
        /// NAT64: an ICMP error about a packet that belongs to no session.
        Nat64IcmpNoSession = "nat64-icmp-no-session",
        /// NAT64: a source route (RFC 7915 4.1) or a Routing header with segments left (RFC 7915 5.1).
        Nat64SourceRoute = "nat64-source-route",
        /// NAT64: the IPv6 source is itself under the NAT64 prefix (RFC 6146 3.5, hairpin loop).
        Nat64LoopedSource = "nat64-looped-source",
        /// NAT64: the result would be larger than the egress MTU and may not be fragmented.
        Nat64TooBig = "nat64-too-big",
        /// Another worker's ring was full.
        HandoffFull = "handoff-full",
        /// A stage originated more than one call may.
        OutboxFull = "outbox-full",
        /// No free frame in the pool.
        NoFrame = "no-frame",
        /// No room in the frame for a longer header.
        NoHeadroom = "no-headroom",
        /// The device's transmit queue was full.
        TxFull = "tx-full",
        /// The worker was stopping and gave back what it still held.
        Shutdown = "shutdown",

        // splicer: stage
        /// An ICMP error about a segment to a client whose connection is still terminated here (RFC 5927 5).
        SplicePeekIcmp = "splice-peek-icmp",
        /// A segment of a server for a health check that is over.
        SpliceCheckOver = "splice-check-over",
        // splicer: config
        /// Towards an address under a client prefix of the splicer, and neither TCP nor an ICMPv6 error in one piece.
        SpliceNotTcp = "splice-not-tcp",

        // splicer: peek
        /// Splicer: towards a connection that is not spliced yet, a segment that contradicts itself or its connection.
        SplicePeekBad = "splice-peek-bad",
        /// The same with a wrong checksum.
        SplicePeekChecksum = "splice-peek-checksum",
        /// Splicer: a segment of no connection. Answered with a reset, within limits (RFC 9293 3.10.7.1).
        SpliceNoConnection = "splice-no-connection",
        /// Splicer: a SYN or reset inside a connection that is not spliced yet, or an acknowledgement of what was never sent;
        /// answered with where it is, once a second (RFC 5961 3.2, 4.2, 5.2).
        SpliceChallenged = "splice-challenged",
        /// Splicer: an old timestamp, or none, where there have to be timestamps (RFC 7323 5.3).
        SpliceOldTimestamp = "splice-old-timestamp",
        /// Splicer: as many connections that are not spliced yet as there may be.
        SplicePeeksFull = "splice-peeks-full",
        /// Splicer: as many connections of one client that are not spliced yet as there may be.
        SpliceClientFull = "splice-client-full",
        /// Splicer: a client opens connections faster than it may.
        SpliceClientLimited = "splice-client-limited",
        /// Splicer: no session is free in the flow table, or no room in its index.
        SpliceNoSession = "splice-no-session",
        /// Splicer: a segment for a connection that another worker is just making or splicing.
        SpliceBusy = "splice-busy",
        /// Splicer: data of a server ahead of the splice that is out of order, or more than is kept; it comes again.
        SpliceNotHeld = "splice-not-held",
        /// Splicer: a connection while the gateway stops.
        SpliceStopping = "splice-stopping",
        // splicer: splice
        /// Splicer: a segment of a spliced connection whose TCP header or options contradict its length (RFC 9293 3.1).
        SpliceBadSegment = "splice-bad-segment",
        /// Splicer: a segment of a spliced connection does not fit the link that it is to leave by.
        SpliceTooBig = "splice-too-big",
        /// Splicer: the address that a connection's server is reached from is no longer configured.
        SpliceSourceGone = "splice-source-gone",
        /// Splicer: a source route that has not run out (RFC 7126 4.3, 4.4).
        SpliceSourceRoute = "splice-source-route",
        /// Splicer: an ICMP error that cannot be read, or has a wrong checksum.
        SpliceIcmpBad = "splice-icmp-bad",
        /// Splicer: an ICMP error of a kind that says nothing to the other end.
        SpliceIcmpType = "splice-icmp-type",
        /// Splicer: an ICMP error about a segment that its connection cannot have sent lately (RFC 5927 4.1).
        SpliceIcmpForged = "splice-icmp-forged",
    }
}

listed! {
    /// What is counted besides drops.
    Counter {
        /// Frames received.
        RxFrames = "rx-frames",
        /// Octets received, Ethernet header included.
        RxOctets = "rx-octets",
        /// Frames sent.
        TxFrames = "tx-frames",
        /// Octets sent, Ethernet header included.
        TxOctets = "tx-octets",
        /// Polls that found frames.
        BusyPolls = "busy-polls",
        /// Polls that found none.
        IdlePolls = "idle-polls",
        /// Packets forwarded natively.
        Forwarded6 = "forwarded6",
        /// Flows of closed networks that are remembered.
        Forward6SessionsCreated = "forward6-sessions-created",
        /// Flows of closed networks that were forgotten.
        Forward6SessionsEnded = "forward6-sessions-ended",
        /// Packets translated from IPv6 to IPv4.
        Nat64V6ToV4 = "nat64-v6-to-v4",
        /// Packets translated from IPv4 to IPv6.
        Nat64V4ToV6 = "nat64-v4-to-v6",
        /// NAT64 packets that turned back to the inside (hairpinning, RFC 6146 3.8).
        Nat64Hairpin = "nat64-hairpin",
        /// NAT64 sessions created.
        Nat64SessionsCreated = "nat64-sessions-created",
        /// NAT64 sessions that ended.
        Nat64SessionsEnded = "nat64-sessions-ended",
        /// NAT64 mappings created.
        Nat64MappingsCreated = "nat64-mappings-created",
        /// NAT64 mappings that ended.
        Nat64MappingsEnded = "nat64-mappings-ended",
        /// Remote addresses that were let in to a NAT64 mapping (address-dependent filtering, RFC 6146 3.5).
        Nat64PermissionsCreated = "nat64-permissions-created",
        /// Remote addresses that are no longer let in to a NAT64 mapping.
        Nat64PermissionsEnded = "nat64-permissions-ended",
        /// SYNs from outside that were stored to wait for one from inside (RFC 6146 3.5.2.2).
        Nat64SynsStored = "nat64-syns-stored",
        /// TCP connections opened from both sides at once while a SYN from outside waited.
        Nat64SimultaneousOpens = "nat64-simultaneous-opens",
        /// Probes to hosts whose TCP connection was idle for its whole time (RFC 6146 3.5.2.2).
        Nat64Probes = "nat64-probes",
        /// Records that control has taken from the workers' mapping logs.
        Nat64LogRecords = "nat64-log-records",
        /// Records of the mapping log that found no room in a worker's ring to control.
        Nat64LogLost = "nat64-log-lost",
        /// Records sent to IPFIX collectors, once for each collector (RFC 7011).
        IpfixRecordsSent = "ipfix-records-sent",
        /// Records that could not be sent to a collector; it sees a gap in the sequence numbers.
        IpfixRecordsLost = "ipfix-records-lost",
        /// ICMP and ICMPv6 errors sent.
        IcmpErrorsSent = "icmp-errors-sent",
        /// ICMP and ICMPv6 errors not sent because of their rate limit.
        IcmpErrorsLimited = "icmp-errors-limited",
        /// Echo requests to the gateway itself answered.
        EchoAnswered = "echo-answered",
        /// ARP requests answered.
        ArpAnswered = "arp-answered",
        /// Neighbor Solicitations answered.
        NsAnswered = "ns-answered",
        /// ARP requests sent.
        ArpSent = "arp-sent",
        /// Neighbor Solicitations sent.
        NsSent = "ns-sent",
        /// Neighbor Advertisements sent that nobody asked for (announcements and defences).
        NaSent = "na-sent",
        /// Valid Router Solicitations received where the gateway advertises.
        RsReceived = "rs-received",
        /// Router Solicitations to be answered by an advertisement to all nodes.
        RaSolicited = "ra-solicited",
        /// Router Advertisements sent to all nodes.
        RaSent = "ra-sent",
        /// Router Advertisements sent to one host, which asked or got a lease.
        RaUnicast = "ra-unicast",
        /// Router Advertisements not sent to one host because of their rate limit.
        RaLimited = "ra-limited",
        /// Addresses that were not announced when the virtual routers became active, because there are too many.
        AnnouncementsLeftOut = "announcements-left-out",
        /// DHCPv6 messages handed to control.
        Dhcp6Asked = "dhcp6-asked",
        /// DHCPv6 messages answered.
        Dhcp6Answered = "dhcp6-answered",
        /// DHCPv6 Replies with an address or prefix.
        Dhcp6Leased = "dhcp6-leased",
        /// DHCPv6 answers that say that there is nothing to lease.
        Dhcp6NoneAvailable = "dhcp6-none-available",
        /// Addresses that DHCPv6 clients declined because somebody else has them (RFC 9915 18.3.8).
        Dhcp6Declined = "dhcp6-declined",
        /// DHCPv6 answers that left out options for which there was no room.
        Dhcp6OptionsLeftOut = "dhcp6-options-left-out",
        /// How often AAAA records were made of A records (RFC 6147 5.1.7); answers from the cache are not counted again.
        Dns64Synthesised = "dns64-synthesised",
        /// DNS64: AAAA records left out because they are in a range that counts as not there (RFC 6147 5.1.4).
        Dns64AaaaExcluded = "dns64-aaaa-excluded",
        /// DNS64: AAAA records left out because they are in a NAT64 prefix of ours, which no server may name.
        Dns64AaaaInPrefix = "dns64-aaaa-in-prefix",
        /// DNS64: A records that nothing was made of: no host's address, or one that the settings or RFC 6052 3.1 refuse.
        Dns64AddressRefused = "dns64-address-refused",
        /// DNS64: failures of a question for AAAA records that were not taken for there being none (RFC 6147 5.1.2).
        Dns64FailedClosed = "dns64-failed-closed",
        /// DNS64: failures of a question for AAAA records after which A records were asked for, as configured.
        Dns64FailedOpen = "dns64-failed-open",
        /// DNS64: names whose answer upstream gives only unchecked: bogus, never diverted to NAT64 (RFC 6147 5.5).
        Dns64Bogus = "dns64-bogus",
        /// DNS64: chains of CNAME and DNAME records that are circles or too long.
        Dns64ChainBroken = "dns64-chain-broken",
        /// DNS64: further questions for the ends of chains that upstream did not follow (RFC 6147 5.1.5).
        Dns64ChainFollowed = "dns64-chain-followed",
        /// DNS64: answers about blocked names.
        Dns64Blocked = "dns64-blocked",
        /// DNS64: answers about names that are answered here by configuration, or that never leave a host's network
        /// (RFC 6761, RFC 7686).
        Dns64Local = "dns64-local",
        /// DNS64: answers about ipv4only.arpa (RFC 8880).
        Dns64Ipv4Only = "dns64-ipv4only",
        /// DNS64: answers about addresses under the prefix (RFC 6147 5.3.1).
        Dns64Reverse = "dns64-reverse",
        /// DNS64: questions for all types, answered with one record that says why (RFC 8482).
        Dns64Any = "dns64-any",
        /// DNS questions of clients, over UDP and TCP.
        Dns64Queries = "dns64-queries",
        /// Of them those that came over TCP.
        Dns64QueriesTcp = "dns64-queries-tcp",
        /// DNS questions that were answered from the cache.
        Dns64CacheHits = "dns64-cache-hits",
        /// DNS questions for which something had to be looked up.
        Dns64CacheMisses = "dns64-cache-misses",
        /// DNS questions that joined an identical one that was under way.
        Dns64Merged = "dns64-merged",
        /// DNS answers that had expired and were given because no fresh one came (RFC 8767).
        Dns64Stale = "dns64-stale",
        /// DNS answers that are asked for again before they expire.
        Dns64Prefetched = "dns64-prefetched",
        /// DNS answers with AAAA records made of A records (RFC 6147), from the cache or not.
        Dns64AnsweredSynthesised = "dns64-answered-synthesised",
        /// DNS answers that were cut because the client takes no longer ones over UDP (flag TC).
        Dns64Truncated = "dns64-truncated",
        /// DNS answers with response code NOERROR.
        Dns64NoError = "dns64-noerror",
        /// DNS answers with response code FORMERR.
        Dns64FormErr = "dns64-formerr",
        /// DNS answers with response code SERVFAIL.
        Dns64ServFail = "dns64-servfail",
        /// DNS answers with response code NXDOMAIN.
        Dns64NxDomain = "dns64-nxdomain",
        /// DNS answers with response code NOTIMP.
        Dns64NotImp = "dns64-notimp",
        /// DNS answers with response code REFUSED.
        Dns64Refused = "dns64-refused",
        /// DNS answers with any other response code.
        Dns64OtherRcode = "dns64-other-rcode",
        /// Connections of DNS clients over TCP that were opened.
        DnsTcpAccepted = "dns-tcp-accepted",
        /// Connections over TCP to upstream resolvers that were opened.
        DnsTcpOpened = "dns-tcp-opened",
        /// DNS messages received over TCP.
        DnsTcpReceived = "dns-tcp-received",
        /// DNS messages handed to TCP to be sent.
        DnsTcpSent = "dns-tcp-sent",
        /// Connections of DNS over TCP closed because they were idle (RFC 7766 6.2.3).
        DnsTcpIdleClosed = "dns-tcp-idle-closed",
        /// Idle connections of DNS over TCP closed to make room for others (RFC 7766 6.2.3).
        DnsTcpEvicted = "dns-tcp-evicted",
        /// Connections of DNS over TCP reset because the other end sends or reads too slowly.
        DnsTcpTooSlow = "dns-tcp-too-slow",
        /// Connections of DNS over TCP reset because of what was sent on them: no DNS message, or one that is too long.
        DnsTcpBadMessage = "dns-tcp-bad-message",
        /// Connections of DNS over TCP that the other end reset.
        DnsTcpPeerReset = "dns-tcp-peer-reset",
        /// Resets not sent for DNS over TCP because of their rate limit.
        DnsTcpResetsLimited = "dns-tcp-resets-limited",
        /// DNS questions sent to upstream resolvers over UDP.
        Dns64UpstreamAsked = "dns64-upstream-asked",
        /// DNS questions sent to upstream resolvers over TCP.
        Dns64UpstreamAskedTcp = "dns64-upstream-asked-tcp",
        /// Answers of upstream resolvers to questions of ours, whatever they say.
        Dns64UpstreamAnswered = "dns64-upstream-answered",
        /// DNS questions that an upstream resolver did not answer in time.
        Dns64UpstreamTimeouts = "dns64-upstream-timeouts",
        /// DNS questions to upstream that joined an identical one under way.
        Dns64UpstreamMerged = "dns64-upstream-merged",
        /// DNS questions that were not asked because too many are under way.
        Dns64UpstreamBusy = "dns64-upstream-busy",
        /// Answers of upstream resolvers with a response code other than NOERROR and NXDOMAIN.
        Dns64UpstreamFailures = "dns64-upstream-failures",
        /// Answers of upstream resolvers that were cut, after which TCP is used (flag TC).
        Dns64UpstreamTruncated = "dns64-upstream-truncated",
        /// Answers of upstream resolvers over TCP that were refused.
        Dns64UpstreamRefusedTcp = "dns64-upstream-refused-tcp",
        /// Questions that moved to TCP because of too many wrong answers to their port: somebody guesses (RFC 5452 9.3).
        Dns64UpstreamGuessed = "dns64-upstream-guessed",
        /// Questions asked again without EDNS (RFC 6891 7).
        Dns64UpstreamNoEdns = "dns64-upstream-no-edns",
        /// Records of upstream's answers that were left out because they do not belong there.
        Dns64UpstreamScrubbed = "dns64-upstream-scrubbed",
        /// Questions sent to see whether an upstream resolver answers.
        Dns64UpstreamProbes = "dns64-upstream-probes",
        /// How often an upstream resolver was taken for down.
        Dns64UpstreamWentDown = "dns64-upstream-went-down",
        /// Packets in which somebody else claims, or asks for, an address of ours.
        AddressConflicts = "address-conflicts",
        /// VRRP advertisements sent.
        VrrpAdvertsSent = "vrrp-adverts-sent",
        /// VRRP advertisements of our virtual routers received and believed to be theirs.
        VrrpAdvertsReceived = "vrrp-adverts-received",
        /// VRRP advertisements sent with priority 0: we stopped being active (RFC 9568 5.2.4).
        VrrpPriorityZeroSent = "vrrp-priority-zero-sent",
        /// VRRP advertisements received with priority 0: another gateway stopped being active.
        VrrpPriorityZeroReceived = "vrrp-priority-zero-received",
        /// VRRP advertisements received whose interval is not ours (RFC 9568 7.1); while we are backup, theirs counts.
        VrrpIntervalDiffers = "vrrp-interval-differs",
        /// VRRP advertisements received that have some more or fewer addresses than ours (RFC 9568 7.1).
        VrrpAddressesDiffer = "vrrp-addresses-differ",
        /// Answers to advertisements of routers that should be backup, not sent because of their rate limit.
        VrrpAnswersLimited = "vrrp-answers-limited",
        /// How often the virtual routers became active.
        VrrpBecameActive = "vrrp-became-active",
        /// How often the virtual routers stopped being active.
        VrrpBecameBackup = "vrrp-became-backup",
        /// A backup did not take over, although it had heard nothing for long enough, because another worker of this
        /// gateway had not looked at its queues since.
        VrrpHeldBack = "vrrp-held-back",
        /// Neighbours resolved.
        NeighborsResolved = "neighbors-resolved",
        /// Neighbours that did not answer.
        NeighborsFailed = "neighbors-failed",
        /// Packets that waited for their next hop.
        NextHopHeld = "next-hop-held",
        /// Packets handed to the worker that owns their state.
        HandedOff = "handed-off",
        /// Events that found no room in the ring to control.
        EventsLost = "events-lost",
        /// Flow slots that could not be reused yet because a worker is behind.
        ReclaimStarved = "reclaim-starved",

        // splicer: checks
        /// Health checks of the splicer's servers that were begun.
        SpliceChecks = "splice-checks",
        /// How often a server was found to be up that was not before.
        SpliceServersUp = "splice-servers-up",
        /// How often a server was found to be down that was up before.
        SpliceServersDown = "splice-servers-down",
        // splicer: sites
        /// Connections that named no site (TLS without SNI, HTTP without a name) and were refused for it.
        SpliceNoName = "splice-no-name",
        /// Connections that named a site that is not known, and were refused for it.
        SpliceUnknownName = "splice-unknown-name",
        /// Connections with an encrypted ClientHello whose outer name is not known, refused for it.
        SpliceUnknownOuterName = "splice-unknown-outer-name",
        /// Connections that named no site, or one that is not known, and came to their listener's default site.
        SpliceDefaultSite = "splice-default-site",
        /// HTTP requests that were redirected to `https:`.
        SpliceRedirected = "splice-redirected",
        /// Connections refused because all servers of their site are down, drain, or have no weight.
        SpliceNoServer = "splice-no-server",
        /// Connections refused because their site wants clients' addresses in a prefix that is not configured (any more).
        SpliceNoClientPrefix = "splice-no-client-prefix",
        /// Connections whose first octets are of no protocol that their listener takes.
        SpliceBadProtocol = "splice-bad-protocol",
        /// TLS connections whose ClientHello cannot be read.
        SpliceBadHello = "splice-bad-hello",
        /// TLS connections whose ClientHello is longer than is read.
        SpliceHelloTooLong = "splice-hello-too-long",
        /// TLS connections whose server name is no name.
        SpliceBadServerName = "splice-bad-server-name",
        /// HTTP connections whose first request cannot be read, or could be read in two ways.
        SpliceBadRequest = "splice-bad-request",
        /// HTTP connections whose first request has a longer head than is read.
        SpliceRequestTooLong = "splice-request-too-long",
        /// HTTP connections whose first request has no host where it needs one, several, or one that is no name.
        SpliceBadHost = "splice-bad-host",

        // splicer: peek
        /// SYNs of clients answered with a cookie.
        SpliceCookies = "splice-cookies",
        /// Connections of clients accepted.
        SpliceAccepted = "splice-accepted",
        /// Connections opened to servers.
        SpliceServersOpened = "splice-servers-opened",
        /// Connections that servers refused: another one was tried, if there was one.
        SpliceServersRefused = "splice-servers-refused",
        /// Connections that servers did not answer in time: another one was tried, if there was one.
        SpliceServersSilent = "splice-servers-silent",
        /// Connections that no server of their site took.
        SpliceServersFailed = "splice-servers-failed",
        /// Clients who sent nothing in time.
        SpliceFirstOctetLate = "splice-first-octet-late",
        /// Clients who did not say in time where they want to go.
        SpliceHelloLate = "splice-hello-late",
        /// Servers that did not acknowledge in time what they were sent ahead of the splice.
        SpliceHandoverLate = "splice-handover-late",
        /// Connections that stay terminated because their server scales no windows although the client was promised it.
        SpliceStaysForScale = "splice-stays-for-scale",
        /// Connections that stay terminated because their server has no timestamps although the client was promised them.
        SpliceStaysForTimestamps = "splice-stays-for-timestamps",
        /// Connections that stay terminated because their server takes smaller segments than the client was told.
        SpliceStaysForMss = "splice-stays-for-mss",
        /// Connections that stayed terminated and ended because nothing came for too long.
        SpliceTerminatedIdle = "splice-terminated-idle",
        /// Clients who closed their connection before they said where they want to go.
        SpliceClientsLeft = "splice-clients-left",
        /// Clients who reset their connection before it was spliced.
        SpliceClientsReset = "splice-clients-reset",
        /// Servers that reset their connection before it was spliced.
        SpliceServersReset = "splice-servers-reset",
        /// Connections ended because they wanted more memory while all that are not spliced hold as much as they may.
        SpliceOctetsFull = "splice-octets-full",
        /// Connections refused because the flow table has no line for a spliced connection, or no free port was found.
        SpliceNoLine = "splice-no-line",
        /// Resets that were not sent because of their rate limit.
        SpliceResetsLimited = "splice-resets-limited",
        /// Connections ended because the gateway stopped before they were spliced.
        SpliceStopped = "splice-stopped",
        // splicer: splice
        /// Spliced segments from clients to servers.
        SpliceToServers = "splice-to-servers",
        /// Spliced segments from servers to clients.
        SpliceToClients = "splice-to-clients",
        /// Connections that were spliced.
        SpliceEngaged = "splice-engaged",
        /// Spliced connections that ended: both ends closed, or one reset it.
        SpliceEndedClosed = "splice-ended-closed",
        /// Spliced connections that ended because nothing came for too long.
        SpliceEndedIdle = "splice-ended-idle",
        /// Spliced connections that ended because the address of their listener, or the one that their server is reached
        /// from, is no longer configured.
        SpliceEndedConfig = "splice-ended-config",
        /// Spliced connections that ended because their client opened a new one with the same port.
        SpliceEndedReused = "splice-ended-reused",
        /// Resets of spliced connections that are too far from what was sent to believe them (RFC 5961 3). They are
        /// passed on: the ends judge.
        SpliceResetsDoubted = "splice-resets-doubted",
        /// ICMP errors passed on to ends of spliced connections.
        SpliceIcmpPassed = "splice-icmp-passed",
    }
}

const DROPS: usize = DropReason::ALL.len();
const COUNTS: usize = Counter::ALL.len();

/// The counters of one worker: written by that worker alone, read by anybody.
#[derive(Debug)]
pub struct Counters {
    drops: CachePadded<[AtomicU64; DROPS]>,
    counts: CachePadded<[AtomicU64; COUNTS]>,
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Counters {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            drops: CachePadded::new([const { AtomicU64::new(0) }; DROPS]),
            counts: CachePadded::new([const { AtomicU64::new(0) }; COUNTS]),
        }
    }

    /// Counts a dropped packet.
    #[inline(always)]
    pub fn drop(&self, reason: DropReason) {
        bump(&self.drops[reason as usize], 1);
    }

    /// Adds to a counter.
    #[inline(always)]
    pub fn add(&self, counter: Counter, n: u64) {
        bump(&self.counts[counter as usize], n);
    }

    /// How many packets were dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].load(Ordering::Relaxed)
    }

    /// The value of a counter.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.counts[counter as usize].load(Ordering::Relaxed)
    }

    /// All counters and drops that are not zero, by name: `drop.NAME` for drops.
    #[must_use]
    pub fn nonzero(&self) -> Vec<(String, u64)> {
        let counts = Counter::ALL.iter().map(|c| (c.name().to_owned(), self.get(*c)));
        let drops = DropReason::ALL.iter().map(|r| (format!("drop.{}", r.name()), self.dropped(*r)));
        counts.chain(drops).filter(|(_, n)| *n != 0).collect()
    }
}

/// There is one writer, so a load and a store lose nothing and cost no locked instruction.
#[inline(always)]
fn bump(at: &AtomicU64, n: u64) {
    at.store(at.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_documented() {
        let names: Vec<&str> =
            DropReason::ALL.iter().map(|r| r.name()).chain(Counter::ALL.iter().map(|c| c.name())).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        assert!(
            names
                .iter()
                .all(|n| n.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'))
        );
        assert!(DropReason::ALL.iter().all(|r| !r.doc().is_empty()));
    }

    #[test]
    fn counts_what_was_counted() {
        let c = Counters::new();
        c.drop(DropReason::NoRoute);
        c.add(Counter::RxFrames, 3);
        c.add(Counter::RxFrames, 4);
        assert_eq!(c.dropped(DropReason::NoRoute), 1);
        assert_eq!(c.nonzero(), vec![("rx-frames".to_owned(), 7), ("drop.no-route".to_owned(), 1)]);
    }
}
