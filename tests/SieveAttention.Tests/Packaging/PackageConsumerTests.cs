using NUnit.Framework;

namespace SieveAttention.Tests.Packaging;

/// <summary>What a user does: a new console project that knows the packages only.</summary>
[Category("Packaging")]
public sealed class PackageConsumerTests
{
    private const string Program = """
        using SieveAttention;

        // One query that equals its only key: cosine 1, threshold 0 (ln 1 = 0), so the output is the value row.
        TensorShape shape = new(1, 1, 1, 4);
        AttentionTensor row = AttentionTensor.From<float>(new float[] { 1, 2, 3, 4 }, shape);
        ThresholdDifferentialAttention attention = new(AttentionDevice.Cpu);
        using ThresholdDifferentialResult result = attention.Forward(new() { Query1 = row, Key1 = row, Value = row });
        Console.WriteLine($"output: {string.Join(' ', result.Output.AsSpan<float>().ToArray())}");
        Console.WriteLine(CudaDevice.IsAvailable(out string reason) ? "cuda: yes" : $"cuda: no, {reason}");
        Console.WriteLine(SieveDiagnostics.Describe());
        """;

    [Test]
    public async Task A_new_project_restores_both_packages_and_runs_attention()
    {
        string native = SourceTree.Package("SieveAttention.Native.linux-x64");
        Assert.That(File.Exists(SourceTree.Package("SieveAttention")), $"The managed package is absent beside {native}.");

        ExternalProgram.Result run = await RunConsumer("SieveAttention", "SieveAttention.Native.linux-x64");

        Assert.That(run.ExitCode, Is.Zero, run.Output);
        Assert.That(run.Output, Does.Contain("output: 1 2 3 4"));
        Assert.That(run.Output, Does.Match("cuda: (yes|no, .+)"));
        Assert.That(run.Output, Does.Match(@"runtimes.linux-x64.native.libsieve_attention\.so"), "The packed native library was not loaded.");
    }

    [Test]
    public async Task A_new_project_with_the_managed_package_alone_runs_on_the_CPU_and_says_why_there_is_no_CUDA()
    {
        ExternalProgram.Result run = await RunConsumer("SieveAttention");

        Assert.That(run.ExitCode, Is.Zero, run.Output);
        Assert.That(run.Output, Does.Contain("output: 1 2 3 4"));
        Assert.That(run.Output, Does.Match("cuda: no, .*sieve_attention"));
    }

    private static async Task<ExternalProgram.Result> RunConsumer(params string[] packages)
    {
        _ = SourceTree.Package("SieveAttention");
        using TemporaryFolder folder = new();
        string references = string.Concat(packages.Select(id =>
            $"""<PackageReference Include="{id}" Version="[{SourceTree.Version}]" />"""));
        File.WriteAllText(Path.Combine(folder.Path, "Program.cs"), Program);
        File.WriteAllText(
            Path.Combine(folder.Path, "Consumer.csproj"),
            $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFramework>net10.0</TargetFramework>
                <ImplicitUsings>enable</ImplicitUsings>
                <Nullable>enable</Nullable>
              </PropertyGroup>
              <ItemGroup>{references}</ItemGroup>
            </Project>
            """);

        // The sources of the machine stay in force for the two dependencies.
        File.WriteAllText(
            Path.Combine(folder.Path, "nuget.config"),
            $"""
            <configuration>
              <packageSources><add key="packed" value="{SourceTree.Packages}" /></packageSources>
            </configuration>
            """);

        // Its own package folder: a package of the same version from an earlier build is never taken for this one.
        return await ExternalProgram.RunAsync(
            "dotnet",
            ["run", "--project", folder.Path],
            folder.Path,
            new Dictionary<string, string> { ["NUGET_PACKAGES"] = Path.Combine(folder.Path, "packages") });
    }
}
