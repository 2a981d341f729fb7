import LinuxIO
import Netfilter
import Testing

@testable import Confinement

struct ObstacleTests {
  private static func settings(_ values: [String: String] = [:], isFiltered: Bool = false)
    -> KernelSettings
  {
    KernelSettings(value: { values[$0] }, isFiltered: isFiltered)
  }

  /// What the message names, the cure among it, and whether it is a matter of permission.
  @Test(arguments: [
    (
      Obstacle.Step.userNamespace, Errno.noSpace, ["user.max_user_namespaces": "0"],
      ["switched off", "sudo sysctl user.max_user_namespaces="], true
    ),
    (
      .userNamespace, .noSpace, ["user.max_user_namespaces": "100"],
      ["as many", "user.max_user_namespaces = 100"], false
    ),
    (
      .networkNamespace, .noSpace, ["user.max_net_namespaces": "0"],
      ["network namespaces are switched off", "sudo sysctl user.max_net_namespaces="], true
    ),
    (
      .mountNamespace, .noSpace, ["user.max_mnt_namespaces": "0"],
      ["sudo sysctl user.max_mnt_namespaces="], true
    ),
    (
      .userNamespace, .notPermitted, ["kernel.unprivileged_userns_clone": "0"],
      ["sudo sysctl kernel.unprivileged_userns_clone=1", "root"], true
    ),
    (
      .userNamespace, .notPermitted,
      [
        "kernel.unprivileged_userns_clone": "1",
        "kernel.apparmor_restrict_unprivileged_userns": "1",
      ],
      ["AppArmor", "profile", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"], true
    ),
    (
      .interface, .notPermitted, ["kernel.apparmor_restrict_unprivileged_userns": "1"],
      ["AppArmor"], true
    ),
    (.userNamespace, .notPermitted, [:], ["chroot", "root"], true),
    (.userNamespace, .invalidArgument, [:], ["CONFIG_USER_NS"], false),
    (.networkNamespace, .invalidArgument, [:], ["CONFIG_NET_NS"], false),
    (.sockets, .protocolNotAvailable, [:], ["CONFIG_NFT_TPROXY"], false),
    (.interface, .familyNotSupported, [:], ["netlink", "AF_NETLINK"], false),
    (.sockets, .tooManyOpenFiles, [:], ["transparent sockets", "too many open files"], false),
  ])
  func isNamedWithItsCure(
    step: Obstacle.Step, error: Errno, values: [String: String], words: [String], isForbidden: Bool
  ) {
    let obstacle = Obstacle(step, error, in: Self.settings(values))
    for word in words { #expect(obstacle.message.contains(word)) }
    #expect(obstacle.isForbidden == isForbidden)
  }

  @Test func filterOfAContainer() {
    let obstacle = Obstacle(.userNamespace, .notPermitted, in: Self.settings(isFiltered: true))
    #expect(obstacle.message.contains("seccomp"))
    #expect(obstacle.message.contains("--cap-add"))
    #expect(obstacle.isForbidden)
  }

  @Test func rules() {
    let lacking = Obstacle(
      .unsupported(feature: "the tproxy statement (CONFIG_NFT_TPROXY)", .noEntry),
      in: Self.settings())
    #expect(lacking.message.contains("CONFIG_NFT_TPROXY"))
    let withoutTables = Obstacle(
      .unsupported(feature: "netfilter's netlink interface", .protocolNotSupported),
      in: Self.settings())
    #expect(withoutTables.message.contains("CONFIG_NF_TABLES"))
    #expect(withoutTables.message.contains("modprobe nf_tables"))
    #expect(!withoutTables.isForbidden)
  }
}
