# SPDX-License-Identifier: GPL-2.0-or-later
#
# How Margay's targets are declared. A library `base` in lib/base is included as "base/x.h" by those
# targets alone that name it in DEPS: each library has an include directory of its own, which holds
# one symbolic link to its sources, so that an include against the layering does not compile.

add_library(margay_flags INTERFACE)
target_compile_options(margay_flags INTERFACE
	-Wall -Wextra -Wconversion -Wno-sign-conversion -Wshadow -Wstrict-prototypes
	-Wmissing-prototypes -Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef -Wvla -Wformat=2
	-Wimplicit-fallthrough -Wnull-dereference -fno-common -fstack-protector-strong
	$<$<BOOL:${MARGAY_WERROR}>:-Werror>)
target_compile_definitions(margay_flags INTERFACE
	_GNU_SOURCE MARGAY_VERSION="${PROJECT_VERSION}"
	$<$<CONFIG:Release>:_FORTIFY_SOURCE=3>)
if(MARGAY_SANITIZE)
	target_compile_options(margay_flags INTERFACE
		-fsanitize=${MARGAY_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
	target_link_options(margay_flags INTERFACE -fsanitize=${MARGAY_SANITIZE})
endif()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)
target_link_options(margay_flags INTERFACE -Wl,-z,relro,-z,now -Wl,--as-needed)

# margay_library(NAME DIR SOURCES f.c... [DEPS lib...] [LINK target...])
# DEPS are Margay's own libraries and visible to users of this one; LINK are third-party targets.
function(margay_library name dir)
	cmake_parse_arguments(A "" "" "SOURCES;DEPS;LINK" ${ARGN})
	set(inc ${CMAKE_BINARY_DIR}/include/${name})
	file(MAKE_DIRECTORY ${inc})
	file(CREATE_LINK ${CMAKE_SOURCE_DIR}/${dir} ${inc}/${name} SYMBOLIC)
	add_library(${name} STATIC ${A_SOURCES})
	target_include_directories(${name} PUBLIC ${inc})
	target_link_libraries(${name} PUBLIC ${A_DEPS} ${A_LINK} PRIVATE margay_flags)
endfunction()

# margay_program(NAME SOURCES f.c... [DEPS lib...] [LINK target...]): installed to bin
function(margay_program name)
	cmake_parse_arguments(A "" "" "SOURCES;DEPS;LINK" ${ARGN})
	add_executable(${name} ${A_SOURCES})
	target_link_libraries(${name} PRIVATE ${A_DEPS} ${A_LINK} margay_flags)
	install(TARGETS ${name} RUNTIME)
endfunction()

# margay_musl_program(TARGET FILE SOURCE f.c [DEPENDS f.h...] [FLAGS flag...]): static, with musl's libc, whose
# start costs least
function(margay_musl_program name file)
	cmake_parse_arguments(A "" "SOURCE" "DEPENDS;FLAGS" ${ARGN})
	find_program(MUSL_GCC musl-gcc REQUIRED)
	add_custom_command(OUTPUT ${file}
		COMMAND ${MUSL_GCC} -static -std=gnu17 -Os -s -ffunction-sections -fdata-sections
			-Wl,--gc-sections -D_GNU_SOURCE -DMARGAY_VERSION=\"${PROJECT_VERSION}\"
			$<TARGET_PROPERTY:margay_flags,INTERFACE_COMPILE_OPTIONS> ${A_FLAGS}
			-o ${file} ${CMAKE_CURRENT_SOURCE_DIR}/${A_SOURCE}
		DEPENDS ${A_SOURCE} ${A_DEPENDS} COMMAND_EXPAND_LISTS VERBATIM)
	add_custom_target(${name} ALL DEPENDS ${file})
endfunction()

# Before a test's command: in namespaces of its own.
set(APART ${CMAKE_SOURCE_DIR}/tests/apart)

# margay_test(NAME LABEL SOURCES f.c... [DEPS lib...] [LINK target...]): a program that ctest runs
function(margay_test name label)
	cmake_parse_arguments(A "" "" "SOURCES;DEPS;LINK" ${ARGN})
	add_executable(${name} ${A_SOURCES})
	target_link_libraries(${name} PRIVATE ${A_DEPS} ${A_LINK} margay_flags)
	target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
	set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
	add_test(NAME ${name} COMMAND ${name})
	set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT 300)
endfunction()

# margay_tests_done(): for the tests of this directory, after the last. `ctest -j` counts halves of a processor: a test
# takes a whole one, one that says PROCESSORS 1 waits for most of its time, and one of two machines says 4. Check gives a
# case 4 seconds, which on a busy machine is not enough for some.
function(margay_tests_done)
	get_property(tests DIRECTORY PROPERTY TESTS)
	foreach(test ${tests})
		get_test_property(${test} PROCESSORS halves)
		if(NOT halves)
			set_tests_properties(${test} PROPERTIES PROCESSORS 2)
		endif()
		set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT CK_DEFAULT_TIMEOUT=60)
	endforeach()
endfunction()

# margay_soak(NAME TIMEOUT COMMAND c... [ENV VAR=VALUE...]): a long case, which only `ctest -C Soak` has
function(margay_soak name timeout)
	cmake_parse_arguments(A "" "" "COMMAND;ENV" ${ARGN})
	add_test(NAME soak_${name} CONFIGURATIONS Soak COMMAND ${A_COMMAND})
	set_tests_properties(soak_${name} PROPERTIES LABELS soak TIMEOUT ${timeout}
		ENVIRONMENT "${A_ENV}")
endfunction()
