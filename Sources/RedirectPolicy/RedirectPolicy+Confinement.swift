extension RedirectPolicy {
  /// For a network namespace without a way out: all TCP and UDP that does not stay in it is captured, and
  /// everything else is rejected at once, since nothing would ever carry it.
  package static var confining: RedirectPolicy {
    var policy = RedirectPolicy(machine: Machine(.tproxy))
    policy.destinations.includesPrivate = true
    policy.destinations.includesScoped = true
    policy.uncaptured = Uncaptured(.reject)
    // Of no use to a program that has no privilege, so that it finds all ports that it may have.
    policy.ports = Ports(redirect: 1, tproxy: 1)
    return policy
  }
}
