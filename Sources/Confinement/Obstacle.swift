internal import LinuxIO
internal import Netfilter

/// Why a program cannot be confined: one line, with what to do about it.
package struct Obstacle: Error, Hashable, Sendable {
  package let message: String
  /// Whether it is a matter of permission, and not of what the kernel has.
  package let isForbidden: Bool

  package init(_ message: String, isForbidden: Bool) {
    self.message = message
    self.isForbidden = isForbidden
  }

  /// What is done to confine a program, in this order.
  enum Step: String, CaseIterable, Sendable {
    case userNamespace = "make a user namespace"
    case networkNamespace = "make a network namespace"
    case mountNamespace = "make a mount namespace"
    case mounts = "hide services of the host from the program"
    case interface = "set up the network namespace"
    case sockets = "open transparent sockets"
    case capabilities = "give up capabilities"
    case descriptors = "close descriptors"
  }

  /// - Parameter surroundings: what the kernel says of itself.
  init(_ step: Step, _ error: Errno, in surroundings: KernelSettings = .current) {
    let what = "cannot \(step.rawValue): \(error)"
    let reason: Reason? =
      switch (step, error) {
      case (.userNamespace, .noSpace): surroundings.limit("user")
      case (.networkNamespace, .noSpace): surroundings.limit("net")
      case (.mountNamespace, .noSpace): surroundings.limit("mnt")
      case (.userNamespace, .invalidArgument), (.userNamespace, .noSystemCall):
        Reason(
          "this kernel lacks user namespaces (CONFIG_USER_NS)", isForbidden: false,
          cure: "run it as root")
      case (.networkNamespace, .invalidArgument):
        Reason(
          "this kernel lacks network namespaces (CONFIG_NET_NS)", isForbidden: false,
          cure: "use a kernel that has them")
      case (.sockets, .protocolNotAvailable):
        Reason(
          "this kernel lacks transparent sockets (CONFIG_NETFILTER_XT_TARGET_TPROXY or "
            + "CONFIG_NFT_TPROXY)", isForbidden: false, cure: "use a kernel that has them")
      case (.interface, .familyNotSupported), (.interface, .protocolNotSupported):
        Reason(
          "this kernel lacks netlink's routing interface (CONFIG_NET), or a sandbox hides it",
          isForbidden: false, cure: "leave the sandbox, or allow sockets of AF_NETLINK in it")
      case (_, .notPermitted), (_, .accessDenied): surroundings.prohibition(step)
      default: nil
      }
    self.init(
      reason.map { "\($0.text) (\(what)): \($0.cure)" } ?? what,
      isForbidden: reason?.isForbidden ?? false)
  }

  init(_ error: NetfilterError, in surroundings: KernelSettings = .current) {
    switch error {
    case .notPermitted:
      self.init(.interface, .notPermitted, in: surroundings)
    case .unsupported(let feature, .protocolNotSupported):
      self.init(
        "this kernel lacks nftables (CONFIG_NF_TABLES), or its module is not loaded and cannot be from "
          + "here (\(feature)): sudo modprobe nf_tables", isForbidden: false)
    case .unsupported:
      self.init(
        "\(error): use a kernel that has it, or load its module as root: modprobe",
        isForbidden: false)
    case .heldByAnother, .failed:
      self.init("\(error)", isForbidden: false)
    }
  }

  /// What is in the way, and what helps.
  struct Reason {
    let text: String
    let isForbidden: Bool
    let cure: String

    init(_ text: String, isForbidden: Bool, cure: String) {
      self.text = text
      self.isForbidden = isForbidden
      self.cure = cure
    }
  }
}

/// Settings that decide whether somebody without privilege may make namespaces.
struct KernelSettings {
  /// Of a setting, by its name.
  let value: (String) -> String?
  /// Whether a filter of system calls is in force for this process (`proc(5)`, Seccomp).
  let isFiltered: Bool

  static var current: KernelSettings {
    let status = readFile("/proc/self/status") ?? ""
    let isFiltered = status.split(separator: "\n").contains {
      $0.hasPrefix("Seccomp:") && !$0.hasSuffix("0")
    }
    return KernelSettings(value: { Sysctl($0).value }, isFiltered: isFiltered)
  }

  /// ENOSPC: too many of a kind, which may be none at all.
  func limit(_ kind: String) -> Obstacle.Reason {
    let name = "user.max_\(kind)_namespaces"
    let value = value(name) ?? "0"
    let kinds = ["user": "user", "net": "network", "mnt": "mount"][kind] ?? kind
    return Obstacle.Reason(
      value == "0"
        ? "\(kinds) namespaces are switched off (\(name) = 0)"
        : "there are as many \(kinds) namespaces as there may be (\(name) = \(value))",
      isForbidden: value == "0", cure: "sudo sysctl \(name)=\(value == "0" ? "15000" : "100000")")
  }

  /// EPERM or EACCES.
  func prohibition(_ step: Obstacle.Step) -> Obstacle.Reason {
    let orRoot = ", or run it as root"
    if value("kernel.unprivileged_userns_clone") == "0" {
      return Obstacle.Reason(
        "user namespaces are for root alone (kernel.unprivileged_userns_clone = 0)",
        isForbidden: true, cure: "sudo sysctl kernel.unprivileged_userns_clone=1" + orRoot)
    }
    if value("kernel.apparmor_restrict_unprivileged_userns") == "1" {
      return Obstacle.Reason(
        "AppArmor forbids programs without a profile what a user namespace is for "
          + "(kernel.apparmor_restrict_unprivileged_userns = 1)",
        isForbidden: true,
        cure: "give sluice the profile that its README shows, or allow it to all: sudo sysctl "
          + "kernel.apparmor_restrict_unprivileged_userns=0" + orRoot)
    }
    if isFiltered {
      return Obstacle.Reason(
        "a seccomp filter, as of a container, forbids it", isForbidden: true,
        cure:
          "start the container with --security-opt seccomp=unconfined, or with --cap-add SYS_ADMIN "
          + "--cap-add NET_ADMIN --cap-add NET_RAW" + (step == .userNamespace ? "" : orRoot))
    }
    return Obstacle.Reason(
      "the kernel, a security module or a chroot forbids it", isForbidden: true,
      cure: "run it as root, outside of a chroot")
  }
}
