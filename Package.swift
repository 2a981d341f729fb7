// swift-tools-version: 6.2
import PackageDescription

/// One set of compiler settings for every Swift target.
let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .treatAllWarnings(as: .error),
]

/// Dynamic exclusivity checks cost a runtime call per access; the data plane is
/// single-threaded per worker and checked statically and in debug builds.
let dataPlane: [SwiftSetting] =
  strict + [.unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release))]

let argumentParser: Target.Dependency = .product(
  name: "ArgumentParser", package: "swift-argument-parser")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
  name: "sluice",
  products: [.executable(name: "sluice", targets: ["sluice"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
  ],
  targets: [
    // The kernel's C interfaces.
    .target(name: "CLinux"),
    .systemLibrary(name: "CLibmnl", pkgConfig: "libmnl", providers: [.apt(["libmnl-dev"])]),
    .systemLibrary(name: "CLibnftnl", pkgConfig: "libnftnl", providers: [.apt(["libnftnl-dev"])]),

    // Pure values and protocol machines: no C, no sockets.
    .target(name: "Addressing", swiftSettings: dataPlane),
    .target(name: "SOCKS", dependencies: ["Addressing"], swiftSettings: dataPlane),
    .target(name: "DNS", swiftSettings: dataPlane),
    .target(name: "NFTables", dependencies: ["Addressing"], swiftSettings: strict),
    .target(
      name: "RedirectPolicy", dependencies: ["NFTables", "Addressing"], swiftSettings: strict),
    .target(name: "Configuration", dependencies: ["Addressing"], swiftSettings: strict),

    // The settings of a file.
    .systemLibrary(name: "CLibyaml", providers: [.apt(["libyaml-dev"])]),
    .target(
      name: "ConfigurationFile", dependencies: ["CLibyaml", "Configuration"],
      swiftSettings: strict),

    // GSSAPI, whose library is loaded at run time.
    .target(name: "CGSSAPI"),
    .target(name: "GSSAPI", dependencies: ["CGSSAPI", "SOCKS"], swiftSettings: dataPlane),

    // System calls, the relay, and the rules in the kernel.
    .target(name: "LinuxIO", dependencies: ["CLinux", "Addressing"], swiftSettings: dataPlane),
    .target(
      name: "DataPlane", dependencies: ["LinuxIO", "SOCKS", "GSSAPI", "DNS", "Addressing"],
      swiftSettings: dataPlane),
    .target(
      name: "Netfilter",
      dependencies: [
        "CLibmnl", "CLibnftnl", "CLinux", "LinuxIO", "NFTables", "RedirectPolicy", "Addressing",
      ],
      swiftSettings: strict),

    // A program in namespaces of its own.
    .target(
      name: "Confinement",
      dependencies: ["LinuxIO", "Netfilter", "RedirectPolicy", "Addressing"],
      swiftSettings: strict),

    // The program.
    .target(
      name: "Daemon",
      dependencies: [
        "Addressing", "SOCKS", "DNS", "LinuxIO", "DataPlane", "NFTables", "RedirectPolicy",
        "Netfilter", "Confinement", "Configuration", "ConfigurationFile", logging,
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "sluice", dependencies: ["Daemon", "Configuration", argumentParser, logging],
      swiftSettings: strict),

    .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: strict),
    .testTarget(
      name: "AddressingTests", dependencies: ["Addressing", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "SOCKSTests", dependencies: ["SOCKS", "Addressing", "TestSupport"],
      swiftSettings: strict),
    .testTarget(name: "DNSTests", dependencies: ["DNS", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "LinuxIOTests", dependencies: ["LinuxIO", "Addressing"], swiftSettings: strict),
    .testTarget(
      name: "DataPlaneTests",
      dependencies: ["DataPlane", "LinuxIO", "SOCKS", "DNS", "Addressing", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "RulesTests",
      dependencies: ["NFTables", "RedirectPolicy", "Addressing", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "NetfilterTests",
      dependencies: ["Netfilter", "CLibnftnl", "NFTables", "Addressing", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "ConfinementTests",
      dependencies: ["Confinement", "Netfilter", "LinuxIO", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "ConfigurationTests", dependencies: ["Configuration", "Addressing", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "ConfigurationFileTests", dependencies: ["ConfigurationFile", "Configuration"],
      swiftSettings: strict),
    .testTarget(
      name: "DaemonTests",
      dependencies: [
        "Daemon", "Configuration", "DataPlane", "Netfilter", "RedirectPolicy", "NFTables",
        "LinuxIO", "SOCKS", "Addressing", "TestSupport",
      ],
      swiftSettings: strict),
  ]
)
