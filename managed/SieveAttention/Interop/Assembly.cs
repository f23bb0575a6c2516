using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

// Every import is blittable: no stubs are generated for them and they stay valid under trimming and native compilation.
[assembly: DisableRuntimeMarshalling]

// Only NativeLoader decides where the library comes from; the runtime's own search never leaves the application's folder.
[assembly: DefaultDllImportSearchPaths(DllImportSearchPath.AssemblyDirectory)]
