package import Addressing

/// Whose a flow is and where it goes, as far as credentials may tell of it.
package struct FlowIdentity: Hashable, Sendable {
  /// The program that has the flow's socket; nil for what is not known of it.
  package struct Owner: Hashable, Sendable {
    package var user: UInt32?
    package var group: UInt32?
    /// Path of its control group of version 2, `/` first.
    package var controlGroup: String?

    package init(user: UInt32? = nil, group: UInt32? = nil, controlGroup: String? = nil) {
      self.user = user
      self.group = group
      self.controlGroup = controlGroup
    }
  }

  /// Who sends it.
  package var client: IPAddress
  /// What the upstream is asked for; of datagrams the first one's.
  package var destination: Endpoint
  package var owner: Owner

  package init(client: IPAddress, to destination: Endpoint, owner: Owner) {
    self.client = client
    self.destination = destination
    self.owner = owner
  }

  /// Of a connection that is of no client's: one that only asks how the upstream behaves, or that
  /// several clients share.
  package static func ourselves(to destination: Endpoint) -> FlowIdentity {
    FlowIdentity(
      client: .v4(.loopback), to: destination, owner: Owner(user: 0, group: 0, controlGroup: "/"))
  }
}

/// What of a flow a part of a user name or password is.
package enum FlowAttribute: Hashable, Sendable, CaseIterable {
  case user, group, controlGroup
  case client, host, port

  /// In place of what is not known.
  private static let unknown = "unknown"

  /// At least one byte.
  func text(of flow: FlowIdentity) -> String {
    switch self {
    case .user: flow.owner.user.map { "\($0)" } ?? Self.unknown
    case .group: flow.owner.group.map { "\($0)" } ?? Self.unknown
    case .controlGroup: flow.owner.controlGroup ?? Self.unknown
    case .client: "\(flow.client)"
    case .host:
      switch flow.destination {
      case .address(let address): "\(address.address)"
      case .name(let name, _): name.text
      }
    case .port: "\(flow.destination.port)"
    }
  }
}

/// A user name or password that flows fill in with what they are.
package struct FlowTemplate: Hashable, Sendable {
  package enum Part: Hashable, Sendable {
    case literal([UInt8])
    case attribute(FlowAttribute)
  }

  package let parts: [Part]

  package init(_ parts: [Part]) { self.parts = parts }

  package var attributes: Set<FlowAttribute> {
    Set(parts.compactMap { part in if case .attribute(let one) = part { one } else { nil } })
  }

  func text(of flow: FlowIdentity) -> [UInt8] {
    var text: [UInt8] = []
    for part in parts {
      switch part {
      case .literal(let bytes): text += bytes
      case .attribute(let attribute): text += Array(attribute.text(of: flow).utf8)
      }
    }
    return text
  }
}

extension Dialect {
  /// What of a flow the credentials tell.
  package var attributes: Set<FlowAttribute> {
    switch self {
    case .socks5(let credentials), .http(let credentials):
      credentials?.attributes ?? []
    case .gssapi(let offer): offer.credentials?.attributes ?? []
    case .socks4(let user, _): user?.template?.attributes ?? []
    }
  }

  private var isTemplate: Bool {
    switch self {
    case .socks5(let credentials), .http(let credentials): credentials?.template != nil
    case .gssapi(let offer): offer.credentials?.template != nil
    case .socks4(let user, _): user?.template != nil
    }
  }

  /// The same with the credentials of a flow; a text that the protocol cannot carry is an error, and
  /// never cut.
  package func filledIn(by flow: @autoclosure () -> FlowIdentity) throws(HandshakeFailure)
    -> Dialect
  {
    guard isTemplate else { return self }
    let flow = flow()
    do throws(CredentialsError) {
      switch self {
      case .socks5(let credentials):
        return .socks5(try credentials?.filledIn(by: flow))
      case .gssapi(let offer):
        return .gssapi(
          SecurityOffer(
            service: offer.service, levels: offer.levels,
            credentials: try offer.credentials?.filledIn(by: flow)))
      case .http(let credentials):
        let credentials = try credentials?.filledIn(by: flow)
        // The first colon of what is sent parts them (RFC 7617, section 2).
        guard credentials?.username.contains(UInt8(ascii: ":")) != true else {
          throw .colonInUsername
        }
        return .http(credentials)
      case .socks4(let user, let takesNames):
        return .socks4(try user?.filledIn(by: flow), takesNames: takesNames)
      }
    } catch {
      throw .credentialsNotSupported(error)
    }
  }
}

extension Credentials {
  struct Template: Hashable {
    let username: FlowTemplate
    let password: FlowTemplate
  }

  fileprivate var attributes: Set<FlowAttribute> {
    template.map { $0.username.attributes.union($0.password.attributes) } ?? []
  }

  /// Until a flow fills them in they are those of `FlowIdentity.ourselves` to no destination.
  package init(username: FlowTemplate, password: FlowTemplate) throws(CredentialsError) {
    let isTemplate = !username.attributes.isEmpty || !password.attributes.isEmpty
    try self.init(
      username: username, password: password, of: .nobody,
      isTemplate ? Template(username: username, password: password) : nil)
  }

  private init(
    username: FlowTemplate, password: FlowTemplate, of flow: FlowIdentity, _ template: Template?
  ) throws(CredentialsError) {
    try self.init(username: username.text(of: flow), password: password.text(of: flow))
    self.template = template
  }

  fileprivate func filledIn(by flow: FlowIdentity) throws(CredentialsError) -> Credentials {
    guard let template else { return self }
    return try Credentials(
      username: template.username, password: template.password, of: flow, nil)
  }
}

extension UserID {
  /// The same for SOCKS4.
  package init(_ template: FlowTemplate) throws(CredentialsError) {
    self = try UserID.filledIn(template, by: .nobody)
    if !template.attributes.isEmpty { self.template = template }
  }

  fileprivate func filledIn(by flow: FlowIdentity) throws(CredentialsError) -> UserID {
    guard let template else { return self }
    return try UserID.filledIn(template, by: flow)
  }

  private static func filledIn(
    _ template: FlowTemplate, by flow: FlowIdentity
  ) throws(CredentialsError) -> UserID {
    let text = template.text(of: flow)
    guard !text.isEmpty else { throw .emptyUsername }
    guard let user = UserID(text) else { throw .usernameTooLong }
    return user
  }
}

extension FlowIdentity {
  fileprivate static let nobody = ourselves(to: .address(SocketAddress(.v4(.any), 0)))
}
